"""Prompts and the chat template: do they fit, and does what is trained end where TRL looks for an end?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from rlvr.completions import TAGS, parse
from rlvr.questions import rationales
from rlvr.training import checks
from rlvr.training.doctor.findings import Severity, check, gathered
from rlvr.types import Completion, Question

if TYPE_CHECKING:
    from rlvr.training.doctor.facts import Setup

NEEDS = ("tokenizer", "stops", "train", "templates")
PULLS = "https://github.com/huggingface/trl/issues/"


class Trained(NamedTuple):
    """One question's reference completion, through the template and back."""

    question: Question
    prefix: bool  # the prompt, as it is asked, opens the whole
    ended: bool  # a stop token, and nothing but white space after it
    prompt_end: str  # the end of the prompt, as the policy is asked
    completion: Completion
    answer: str | None  # what should have come back


def round_trip(setup: Setup) -> Iterator[Trained]:
    """The first training question of each task. Tokenised as trl.SFTTrainer does."""
    seen: set[str] = set()
    for question in setup.train:
        if question.task in seen or not setup.tokenizer.chat_template:
            continue
        seen.add(question.task)
        template = setup.templates[question.task]
        row = rationales.rows(question, template)
        prompt = _ids(setup, row["prompt"], add_generation_prompt=True)
        whole = _ids(setup, [*row["prompt"], *row["completion"]])
        written = whole[len(prompt) :]
        end = next((place for place, token in enumerate(written) if token in setup.stops), None)
        rest = "" if end is None else setup.tokenizer.decode(written[end + 1 :])
        text = setup.tokenizer.decode(written[:end], skip_special_tokens=True)
        yield Trained(
            question,
            whole[: len(prompt)] == prompt,
            end is not None and not rest.strip(),
            setup.tokenizer.decode(prompt[-8:]),
            parse(text, template.answers, question.fields),
            template.answers.read(template.word(question.truth["answer"]), question.fields),
        )


@check(Severity.REFUSE, f"{PULLS}3433", needs=("config", "grpo", "texts"))
def prompts_fit(setup: Setup) -> str | None:
    """TRL no longer truncates prompts: one that is too long raises, or hangs the others."""
    room = checks.prompt_room(setup.config, setup.recipe.vllm, setup.grpo)
    return checks.long_prompt(setup.texts.prompts, room, setup.grpo.max_completion_length)


@check(Severity.REFUSE, "https://huggingface.co/docs/trl/sft_trainer", needs=("sft", "texts"))
def warm_start_is_not_cut(setup: Setup) -> str | None:
    """trl.SFTConfig cuts rows at max_length (1024 unless set), and with them the answer and its EOS."""
    limit = setup.sft.max_length
    over = [] if limit is None else [name for name, tokens in setup.texts.rows.items() if tokens > limit]
    if over:
        return f"{len(over)} warm-start rows, {over[0]} among them, are cut at sft.max_length {limit}; raise it"
    return None


@check(Severity.WARN, needs=("grpo", "texts"))
def completions_have_room(setup: Setup) -> str | None:
    """A completion as long as the reference must be able to finish."""
    most = max(tokens - setup.texts.prompts[name] for name, tokens in setup.texts.rows.items())
    if most > setup.grpo.max_completion_length:
        return (
            f"a reference completion takes {most} tokens, grpo.max_completion_length is "
            f"{setup.grpo.max_completion_length}: such an answer cannot be finished; raise it"
        )
    return None


@check(Severity.REFUSE, needs=("tokenizer", "train", "held_out", "templates"))
def prompts_hold_no_control_tokens(setup: Setup) -> str | None:
    """A name that holds one ends the user's turn and writes the assistant's."""
    prompts = checks.rendered([*setup.train, *setup.held_out], setup.templates)
    return checks.control_token(prompts, setup.tokenizer.all_special_tokens)


@check(Severity.REFUSE, "https://huggingface.co/docs/trl/sft_trainer", needs=NEEDS)
def template_ends_in_eos(setup: Setup) -> str | None:
    """A policy that never learned to stop is cut off, and what is cut off is no answer."""
    if bad := next((t.question for t in round_trip(setup) if not t.ended), None):
        return (
            f"{bad.task}: after the chat template, a completion does not end in one of the stop tokens "
            f"{sorted(setup.stops)}; end the template's assistant turn with the tokenizer's eos_token"
        )
    return None


@check(Severity.REFUSE, needs=NEEDS)
def template_keeps_the_answer(setup: Setup) -> str | None:
    """The template must neither strip the thought nor add words: the strict parser reads what comes back."""
    if bad := next((t for t in round_trip(setup) if t.answer is None or t.completion.answer != t.answer), None):
        return f"{bad.question.task}: through the chat template and back, a reference completion no longer parses"
    return None


@check(Severity.WARN, "https://huggingface.co/docs/trl/sft_trainer", needs=NEEDS)
def prompt_opens_the_whole(setup: Setup) -> str | None:
    """Else the warm start learns from another place than the policy is asked at."""
    if bad := next((t.question for t in round_trip(setup) if not t.prefix), None):
        return f"{bad.task}: the prompt as asked is no prefix of prompt and completion as trained; mend the template"
    return None


@check(Severity.REFUSE, f"{PULLS}6966", needs=NEEDS)
def template_leaves_the_thought_open(setup: Setup) -> str | None:
    """What a template writes of the answer's form is missing in the completion. A thought that it opens is read all the
    same, but a warm start would open it twice."""
    tags = TAGS if setup.recipe.sft else TAGS[1:]
    if bad := next((t for t in round_trip(setup) if any(tag in t.prompt_end for tag in tags)), None):
        cure = "take it out, or leave out the warm start (sft: {})" if setup.recipe.sft else "take it out"
        return f"{bad.question.task}: the chat template itself writes {bad.prompt_end.strip()[-12:]!r}; {cure}"
    return None


@check(Severity.REFUSE, f"{PULLS}3112", needs=("config", "tokenizer"))
def vocabulary_is_the_models(setup: Setup) -> str | None:
    """A tokenizer with more tokens than the model has rows: embeddings would be resized, which vLLM refuses."""
    words, rows = len(setup.tokenizer), setup.config.get_text_config().vocab_size
    if words > rows:
        return f"the tokenizer has {words} tokens, the model {rows} rows; use the tokenizer that the model came with"
    return None


def _ids(setup: Setup, messages: object, **options: bool) -> list[int]:
    ids: list[int] = setup.tokenizer.apply_chat_template(messages, return_dict=False, **options)
    return ids


CHECKS = gathered(globals())
