"""Traps of what is optimised: loss, advantages, masking, and what TRL does with what a run writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlvr.training import checks
from rlvr.training.doctor.findings import Severity, check, gathered
from rlvr.types import Error

if TYPE_CHECKING:
    from rlvr.training.doctor.facts import Setup

TRL = "https://github.com/huggingface/trl"
GSPO_EPSILON = 0.01  # a clip range for ratios of whole sequences; theirs is 3e-4


@check(Severity.WARN, f"{TRL}/issues/5588", needs=("grpo",))
def kl_spares_empty_groups(setup: Setup) -> str | None:
    """Groups whose rewards are all equal have no advantage, but their KL term still pulls."""
    if setup.grpo.beta > 0:
        return (
            f"grpo.beta {setup.grpo.beta:g}: in groups whose rewards are all equal only the KL term acts, and pulls "
            "back to the reference; watch frac_reward_zero_std, or set beta to 0"
        )
    return None


@check(Severity.WARN, "https://arxiv.org/abs/2503.20783", needs=("grpo",))
def loss_ignores_length(setup: Setup) -> str | None:
    """A mean per completion punishes long wrong answers less, so wrong answers grow."""
    if setup.grpo.loss_type == "grpo" and setup.grpo.importance_sampling_level == "token":
        return "grpo.loss_type grpo averages per completion, which favours long wrong ones; use dapo or dr_grpo"
    return None


@check(Severity.WARN, "https://arxiv.org/abs/2503.20783", needs=("grpo",))
def dr_grpo_is_whole(setup: Setup) -> str | None:
    """Dr. GRPO takes out both divisions."""
    if setup.grpo.loss_type == "dr_grpo" and setup.grpo.scale_rewards != "none":
        return "grpo.loss_type dr_grpo goes with grpo.scale_rewards=none: else nearly solved questions weigh most"
    return None


@check(Severity.WARN, "https://arxiv.org/abs/2507.18071", needs=("grpo",))
def sequence_ratios_are_clipped_close(setup: Setup) -> str | None:
    """GSPO's ratios hardly leave 1; a range of .2 never clips."""
    if setup.grpo.importance_sampling_level == "sequence" and setup.grpo.epsilon > GSPO_EPSILON:
        return f"grpo.epsilon {setup.grpo.epsilon:g} never clips whole sequences; use 3e-4 (epsilon_high 4e-4)"
    return None


@check(Severity.WARN, "https://arxiv.org/abs/2508.11800", needs=("grpo",))
def proper_scores_are_not_scaled(setup: Setup) -> str | None:
    """Divided by its group's deviation, a proper score rewards over-confidence."""
    try:
        proper = [name for name, (verifier, _, _) in setup.recipe.open_verifiers().items() if verifier.proper]
    except Error:  # a finding already
        return None
    return checks.overconfidence(proper, setup.grpo.scale_rewards)


@check(Severity.REFUSE)
def critic_is_a_verifier(setup: Setup) -> str | None:
    """Another name would judge nothing."""
    return checks.unknown_critic(setup.recipe.learning.critic, setup.recipe.verifiers)


@check(Severity.WARN, "https://arxiv.org/abs/2601.05242", needs=("grpo",))
def scaling_is_heard(setup: Setup) -> str | None:
    """GDPO normalises each reward by itself."""
    ignored = setup.grpo.multi_objective_aggregation == "normalize_then_sum"
    if ignored and "scale_rewards" in setup.recipe.grpo:
        return "grpo.scale_rewards is ignored under multi_objective_aggregation=normalize_then_sum; leave one out"
    return None


@check(Severity.WARN, "https://arxiv.org/abs/2503.14476", needs=("grpo",))
def truncated_completions_are_masked(setup: Setup) -> str | None:
    """DAPO's own recipe: what was cut off says nothing of whether the thought was good."""
    grpo = setup.grpo
    if grpo.loss_type == "dapo" and grpo.epsilon_high and not grpo.mask_truncated_completions:
        return (
            "grpo.epsilon_high (clip-higher) without grpo.mask_truncated_completions: DAPO has both, as completions "
            "that are cut off score 0 whatever they thought"
        )
    return None


@check(Severity.REFUSE, "https://huggingface.co/docs/trl/grpo_trainer", needs=("grpo",))
def rewards_get_their_columns(setup: Setup) -> str | None:
    """Verifiers read the column `question`."""
    if setup.grpo.remove_unused_columns:
        return "grpo.remove_unused_columns=true takes the questions away from the verifiers; leave it out"
    return None


@check(Severity.REFUSE, "https://huggingface.co/docs/transformers/main_classes/trainer")
def checkpoints_can_resume(setup: Setup) -> str | None:
    """A model alone has no optimiser to go on with, and data that is not skipped is asked again."""
    recipe = setup.recipe
    return checks.unresumable("sft", recipe.sft or {}) or checks.unresumable("grpo", recipe.grpo)


@check(Severity.WARN, "https://huggingface.co/docs/trl/grpo_trainer", needs=("grpo",))
def completions_stay_private(setup: Setup) -> str | None:
    """TRL pushes them to a public data set unless told otherwise, prompts and licensed data included."""
    if setup.grpo.log_completions_hub_repo and not setup.grpo.hub_private_repo:
        return (
            "grpo.log_completions_hub_repo publishes prompts and completions, and with them the sources' data; set "
            "grpo.hub_private_repo=true"
        )
    return None


@check(Severity.WARN, "https://huggingface.co/docs/trl/grpo_trainer", needs=("grpo",))
def entropy_target_can_be_met(setup: Setup) -> str | None:
    """The default target hardly ever fires."""
    if setup.grpo.use_adaptive_entropy and "entropy_target" not in setup.recipe.grpo:
        return (
            "grpo.use_adaptive_entropy without entropy_target: the default almost never acts; set it near what you see"
        )
    return None


@check(Severity.WARN, needs=("train",))
def snippets_are_not_claims(setup: Setup) -> str | None:
    """`claims` pays nothing for a fact that the question shows."""
    named = (str(values.get("verifier", name)) for name, values in setup.recipe.verifiers.items())
    if "claims" in named and any(any(question.fields.get("known", {}).values()) for question in setup.train):
        return (
            "verifier claims pays nothing for what a prompt shows, and the source's option snippets shows annotations "
            "of the question's genes: only facts beyond those earn; set snippets to 0, or leave claims out"
        )
    return None


CHECKS = gathered(globals())
