"""The untrained model on a few questions: does it answer at all, does it finish, do its groups differ?

A group whose rewards are all equal has no advantage: where all groups are so, GRPO moves nothing. A warm start may
mend it, so with one in the recipe these are warnings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import set_seed

from rlvr import policy
from rlvr.loading import first, reward_layer
from rlvr.training.doctor.findings import Finding, Severity

if TYPE_CHECKING:
    from rlvr.training.doctor.facts import Setup

LINK = "https://github.com/huggingface/trl/issues/"
FEW_PARSED, MANY_CUT, MANY_EMPTY = 0.05, 0.3, 0.8
SAME = 1e-6  # rewards closer than this are equal


@dataclass(frozen=True)
class Trial:
    """Shares over the completions of `questions` groups; zero_variance is over the groups."""

    questions: int
    completions: int
    parsed: float
    truncated: float
    zero_variance: float
    reward: float


def try_out(setup: Setup, questions: int) -> Trial:
    """One group of completions for each of so many training questions, sampled as training would."""
    model, tokenizer = policy.load_base(setup.recipe.model)
    model.to("cpu" if setup.machine.cpu else "cuda").eval()
    set_seed(setup.recipe.seed)
    layer = reward_layer(setup.recipe, setup.templates)
    asked = first(setup.train, questions)
    group = setup.batch.num_generations
    rows, rewards = [], []
    for question in asked:
        messages = setup.templates[question.task].render(question)
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        prompt = torch.tensor([ids], device=model.device)
        with torch.no_grad():
            written = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=True,
                temperature=setup.grpo.temperature,
                top_p=setup.grpo.top_p,
                top_k=setup.grpo.top_k,
                num_return_sequences=group,
                max_new_tokens=setup.grpo.max_completion_length,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=sorted(setup.stops),
            )[:, prompt.shape[1] :].tolist()
        ends = [next((i for i, token in enumerate(row) if token in setup.stops), None) for row in written]
        texts = tokenizer.batch_decode(
            [row[:end] for row, end in zip(written, ends, strict=True)], skip_special_tokens=True
        )
        scored = layer.score([question] * group, texts, [end is not None for end in ends])
        rows += scored
        rewards.append([float(row["reward"]) for row in scored if row["reward"] is not None])
    flat = [reward for group_rewards in rewards for reward in group_rewards]
    return Trial(
        questions=len(asked),
        completions=len(rows),
        parsed=sum(row["answer"] is not None for row in rows) / len(rows),
        truncated=sum(not row["finished"] for row in rows) / len(rows),
        zero_variance=sum(not own or max(own) - min(own) < SAME for own in rewards) / len(rewards),
        reward=sum(flat) / max(1, len(flat)),
    )


def judge(setup: Setup, trial: Trial) -> Iterator[Finding]:
    """What a trial says against a run."""
    worst = Severity.WARN if setup.sft is not None else Severity.REFUSE
    mended = "; the warm start has to mend it" if setup.sft is not None else "; add a warm start (sft)"
    told = f"of {trial.completions} untrained completions"
    if trial.parsed < FEW_PARSED:
        yield Finding("untrained_answers_parse", Severity.WARN, f"{trial.parsed:.0%} {told} parse{mended}")
    if trial.truncated > MANY_CUT:
        masked = ", and mask_truncated_completions leaves them out" if setup.grpo.mask_truncated_completions else ""
        message = f"{trial.truncated:.0%} {told} are cut off{masked}; raise grpo.max_completion_length"
        yield Finding("untrained_completions_finish", Severity.WARN, message, f"{LINK}7039")
    if trial.zero_variance > MANY_EMPTY:
        severity = worst if trial.zero_variance == 1 else Severity.WARN
        message = (
            f"in {trial.zero_variance:.0%} of {trial.questions} groups all rewards are equal: no advantage{mended}"
        )
        yield Finding("untrained_rewards_vary", severity, message, f"{LINK}6367")
