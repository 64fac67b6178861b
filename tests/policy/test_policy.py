"""The policy on the real SmolLM2-135M: samplers, the forced slot, adapters and their base."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlvr import policy
from rlvr.types import Error

ANSWERS = {"up": "up", "down": "down"}
PROMPTS = [
    [
        {"role": "system", "content": "Answer up or down."},
        {"role": "user", "content": f"Knockdown of {gene}: up or down? " + "Think. " * words},
    ]
    for gene, words in (("HSPA5", 0), ("DDIT3", 9), ("ATF4", 3))
]


pytestmark = [pytest.mark.slow, pytest.mark.smollm2]  # a real language model


@pytest.fixture(scope="module")
def loaded() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return policy.load_base("smollm2-135m")


def test_slot_from_the_cache_is_the_slot_read_anew(loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    """The cached reading (padded batch, masked tail) gives the probabilities of one plain forward pass."""
    model, tokenizer = loaded
    sampler = policy.TransformersSampler(model, tokenizer, batch_size=2)
    answered = sampler.answer(PROMPTS, ANSWERS, 20, lambda n: None)
    slot, reread = policy.AnswerSlot(tokenizer, ANSWERS), 0
    for messages, got in zip(PROMPTS, answered, strict=True):
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        written = model.generate(
            torch.tensor([prompt]), max_new_tokens=20, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )[0, len(prompt) :].tolist()
        text = written[: written.index(tokenizer.eos_token_id)] if got.finished else written
        assert tokenizer.decode(text, skip_special_tokens=True) == got.text
        kept = min(slot.thought_length(text), len(written) - 1)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + text[:kept] + slot.ids])).logits[:, -1]
        assert got.probabilities == pytest.approx(slot.normalise(logits)[0], abs=1e-4)
        assert sum(got.probabilities.values()) == pytest.approx(1.0)
        thought = tokenizer.decode(text[:kept])
        if slot.encode(thought) == text[:kept]:  # a thought that is given is read as one that was written
            (given,) = sampler.read([messages], [thought], ANSWERS)
            assert given == pytest.approx(got.probabilities, abs=1e-4)
            reread += 1
    assert reread


def test_thought_ends_before_the_first_closing_or_answer_tag(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    tokenizer = loaded[1]
    slot = policy.AnswerSlot(tokenizer, ANSWERS)
    for text, thought in (
        ("<think>ATF4 rises.</think>\n<answer>up</answer>", "<think>ATF4 rises."),
        ("<think>a<answer>up</answer></think>", "<think>a"),
        ("no tags at all", "no tags at all"),
        ("", ""),
    ):
        ids = tokenizer.encode(text, add_special_tokens=False)
        kept = tokenizer.decode(ids[: slot.thought_length(ids)])
        assert thought.startswith(kept) and len(thought) - len(kept) <= 1  # a tag may merge with the letter before


def test_answer_words_must_differ_in_their_first_token(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    with pytest.raises(Error, match="share their first token"):
        policy.AnswerSlot(loaded[1], {"up": "up", "up more": "more"})


def test_adapter_belongs_to_its_base(tmp_path: Path) -> None:
    base, _ = policy.load_base("smollm2-135m")
    digest = policy.fingerprint(base)
    options = {"r": 2, "target_modules": ["q_proj"]}
    tuned = policy.add_lora(base, options)
    policy.save_adapter(tuned, tmp_path / "adapter", "smollm2-135m", digest)

    again, _ = policy.load_base("smollm2-135m")
    assert policy.fingerprint(again) == digest
    assert policy.load_adapter(again, tmp_path / "adapter").peft_config["default"].r == 2

    other, _ = policy.load_base("smollm2-135m")
    with torch.no_grad():
        other.model.layers[3].mlp.up_proj.weight[0, 0] += 0.1
    with pytest.raises(Error, match="belongs to smollm2-135m"):
        policy.load_adapter(other, tmp_path / "adapter")
    with pytest.raises(Error, match="holds no adapter"):
        policy.load_adapter(other, tmp_path)


@pytest.mark.parametrize(
    ("options", "told"), [({"rank": 3}, "rank"), ({"target_modules": ["nope"]}, "nope"), ({"r": 0}, "r")]
)
def test_lora_mistakes_are_one_line(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], options: dict[str, object], told: str
) -> None:
    with pytest.raises(Error, match=told) as caught:
        policy.add_lora(loaded[0], {"target_modules": ["q_proj"], **options})
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_no_half_adapter(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    """A file-size limit stops the write of the weights in the middle, as a full disk does."""
    base, _ = policy.load_base("smollm2-135m")
    tuned = policy.add_lora(base, {"r": 8, "target_modules": ["q_proj"]})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Error, match=r"cannot write .*adapter: .*free some space") as caught:
            policy.save_adapter(tuned, tmp_path / "adapter", "smollm2-135m", "0" * 64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
