"""The entropy bonus: at the answer's first token alone, averaged as the policy's loss is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOTrainer

from rlvr import policy
from rlvr.completions import reference
from rlvr.recipe import load
from rlvr.training.run import Run
from rlvr.training.trainer.answer_entropy import answer_places, surprises
from rlvr.types import Error
from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny.make(tmp_path_factory.mktemp("tiny"), tiny.planted(), steps=160)
    return folder


def run_of(model: Path, folder: Path, *overrides: str) -> Run:
    options = {"grpo.max_steps": 1, "grpo.per_device_train_batch_size": 8, "grpo.num_generations": 4, "sft": "{}"}
    options |= {"grpo.max_completion_length": 40, "evaluation.stages": "[]", "lora.layers_to_transform": "null"}
    settings = [
        f"model={model}",
        f"output_dir={folder}",
        "source.evidence=1",
        *(f"{key}={value}" for key, value in options.items()),
    ]
    return Run(load("quickstart", [*settings, *overrides]))


def test_the_place_is_where_the_answers_word_begins(model: Path) -> None:
    _, tokenizer = policy.load_base(str(model))
    slot = policy.AnswerSlot(tokenizer, {"higher": "up", "lower": "down", "unchanged": "none"})
    texts = [
        reference("ZAP70 on IL-2: like LAT lower", "higher"),
        reference("higher, lower", "unchanged"),
        "<think>lower</think> higher",  # no tag before it
        "<answer>lower</answer> then <answer>higher</answer>",
    ]
    rows = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
    places = answer_places(ids, set(slot.words), tokenizer)
    assert places.sum(1).tolist() == [1, 1, 0, 1]
    found = [slot.words[int(ids[row, at])] for row, at in places.nonzero().tolist()]
    assert found == ["up", "none", "up"]
    assert tokenizer.decode(ids[0, : int(places[0].nonzero())]).endswith("<answer>")


def test_a_surprise_is_measured_against_the_other_completions_of_a_prompt() -> None:
    prompts = torch.tensor([[1, 2], [1, 2], [1, 3], [1, 2], [1, 3]])
    logps = torch.tensor([[-9.0, -1.0], [-2.0, -9.0], [-9.0, -5.0], [-9.0, -9.0], [-3.0, -9.0]])
    places = torch.tensor([[0, 1], [1, 0], [0, 1], [0, 0], [0, 0]]).bool()
    # Prompt (1, 2): surprises 1 and 2, mean 1.5; the fourth has no answer. Prompt (1, 3): one alone is its own mean.
    expected = [[0.0, -0.5], [0.5, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert surprises(logps, places, prompts).tolist() == expected


@pytest.mark.parametrize("loss", ["dapo", "grpo", "dr_grpo", "cispo"])
def test_the_bonus_is_an_advantage_of_the_answers_token_alone(
    loss: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss changes by what an advantage at that token alone gives; what the sampler drew stays as it was."""
    seen: list[tuple[float, float, float]] = []
    plain = GRPOTrainer._compute_loss

    def watched(self: Any, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        rows = inputs["advantages"].clone()
        found = plain(self, model, inputs)
        extra = inputs["advantages"] - rows[:, None]
        places = answer_places(inputs["completion_ids"], self.answer_words, self._tokenizer)
        assert extra[places].abs().max() > 0.01 and not extra[~places].any()
        kept, self._inputs = self._inputs, None  # no bonus
        losses = [plain(self, model, inputs | {"advantages": a}).item() for a in (rows, extra)]
        self._inputs = kept
        seen.append((found.item(), *losses))
        return found

    monkeypatch.setattr(GRPOTrainer, "_compute_loss", watched)
    run_of(model, tmp_path / "run", "learning.answer_entropy=0.5", f"grpo.loss_type={loss}").grpo()
    whole, without, bonus = seen[0]
    assert whole == pytest.approx(without + bonus, abs=1e-5)


def test_what_it_cannot_do_is_refused(model: Path, tmp_path: Path) -> None:
    run = run_of(model, tmp_path / "run", "learning.answer_entropy=0.5", "grpo.importance_sampling_level=sequence")
    with pytest.raises(Error, match="is for one token"):
        run.grpo()
