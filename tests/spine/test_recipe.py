"""Recipes: every shipped one builds; every kind of mistake is one clear error that names the mend."""

from __future__ import annotations

import dataclasses
import re
from itertools import takewhile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rlvr.options import build
from rlvr.recipe import BUILT_IN, Recipe, load
from rlvr.types import Error

SHIPPED = sorted(p.stem for p in BUILT_IN.glob("*.yaml"))
MINIMAL = {
    "model": "smollm2-135m",
    "source": {"name": "tcell_cytokines"},
    "verifiers": {"label": {"weight": 1.0}},
    "output_dir": "runs/x",
}


def write(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_opens(name: str) -> None:
    recipe = load(name)
    assert recipe.output_dir == f"runs/{name}"
    assert [source.name for source, _ in recipe.open_sources()] == [values["name"] for values in recipe.sources]
    assert set(recipe.open_verifiers()) == set(recipe.verifiers)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_opens_with_its_launch_command(name: str) -> None:
    lines = (BUILT_IN / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    head = "\n".join(takewhile(lambda line: line.startswith("#"), lines))
    assert re.search(rf"train.py --config {re.escape(name)}( |$)", head, re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"modle": "x"}, "unknown key 'modle', did you mean 'model'?"),
        ({"seed": "one"}, "seed must be int, not 'one'"),
        ({"seed": True}, "seed must be int, not True"),
        ({"source": "tcell_cytokines"}, "source must be a section of keys"),
        ({"source": {"evidence": 4}}, "source needs a name"),
        ({"verifiers": {}}, "name at least one"),
        ({"evaluation": {"split": "test"}}, "must be one of 'train', 'validation'"),
        ({"evaluation": {"stages": "before"}}, "must be a list"),
        ({"vllm": {"enable": True}}, "did you mean 'enabled'?"),
        ({"grpo": {"seed": 3}}, "grpo.seed is set by `seed` at the top"),
        ({"grpo": {"use_vllm": True}}, "`vllm.enabled` at the top"),
        ({"grpo": {"reward_weights": [1.0]}}, "`verifiers` at the top"),
        ({"sft": {"output_dir": "x"}}, "sft.output_dir is set by `output_dir`"),
    ],
)
def test_mistakes_are_told(change: dict[str, object], told: str) -> None:
    with pytest.raises(Error) as caught:
        build(Recipe, {**MINIMAL, **change}, "recipe r.yaml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("verifiers", "told"),
    [
        ({"lable": {}}, "did you mean 'label'?"),
        ({"label": {"weight": "high"}}, "verifiers.label.weight must be a number"),
        ({"label": {"gate": 1}}, "verifiers.label.gate must be true or false"),
        ({"mention": {"mots": 3}}, "did you mean 'most'?"),
        ({"mention": {"most": 2.5}}, "most must be int"),
    ],
)
def test_verifier_mistakes_are_told(verifiers: dict[str, dict[str, object]], told: str) -> None:
    recipe = build(Recipe, {**MINIMAL, "verifiers": verifiers}, "recipe r.yaml")
    with pytest.raises(Error, match=told.replace("?", r"\?")):
        recipe.open_verifiers()


def test_missing_key_and_unknown_recipe(tmp_path: Path) -> None:
    with pytest.raises(Error, match="source is missing"):
        load(write(tmp_path, "model: x\nverifiers: {label: {}}\n"))
    with pytest.raises(Error, match="did you mean 'quickstart'"):
        load("quickstat")


@pytest.mark.parametrize("text", ["[1, 2]", "just words", "model: [", ""])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(Error, match="recipe"):
        load(write(tmp_path, text))


def test_yaml_cannot_build_objects(tmp_path: Path) -> None:
    with pytest.raises(Error, match="not valid YAML"):
        load(write(tmp_path, "model: !!python/object/apply:os.system ['true']\n"))


def test_overrides() -> None:
    recipe = load(
        "quickstart", ["seed=7", "grpo.max_steps=3", "evaluation.stages=[after]", "grpo.learning_rate=1.0e-5"]
    )
    assert (recipe.seed, recipe.grpo["max_steps"], recipe.evaluation.stages) == (7, 3, ("after",))
    assert recipe.grpo["learning_rate"] == 1e-5  # a number, although YAML 1.1 would read a string
    with pytest.raises(Error, match="write key=value"):
        load("quickstart", ["seed"])
    with pytest.raises(Error, match="model is not a section"):
        load("quickstart", ["model.deep=1"])


@given(st.integers(), st.floats(0, 10), st.booleans())
def test_resolved_recipe_reads_back(seed: int, weight: float, gate: bool) -> None:
    """recipe.yaml in a run's folder is the recipe again."""
    values = {**MINIMAL, "seed": seed, "verifiers": {"label": {"weight": weight, "gate": gate}}}
    recipe = build(Recipe, values, "r")
    again = build(Recipe, yaml.safe_load(yaml.safe_dump(recipe.to_dict())), "r")
    assert again == recipe
    _, schedule, gated = again.open_verifiers()["label"]
    assert (schedule.at(0), gated) == (weight, gate)


def test_a_weight_may_follow_the_steps() -> None:
    values = {**MINIMAL, "verifiers": {"label": {"weight": {0: 0.0, 20: 1.0}}}}
    recipe = build(Recipe, values, "r")
    again = build(Recipe, yaml.safe_load(yaml.safe_dump(recipe.to_dict())), "r")
    for read in (recipe, again):
        assert [read.open_verifiers()["label"][1].at(step) for step in (0, 5, 20, 99)] == [0.0, 0.25, 1.0, 1.0]


def test_a_recipe_may_have_several_sources() -> None:
    sources = [{"name": "tcell_cytokines", "questions": 7}, {"name": "perturbqa", "context": "rpe1"}]
    recipe = build(Recipe, {**MINIMAL, "source": sources}, "r")
    assert [(source.name, most) for source, most in recipe.open_sources()] == [
        ("tcell_cytokines", 7),
        ("perturbqa", None),
    ]
    for most in (0, True, "many"):
        wrong = build(Recipe, {**MINIMAL, "source": [{"name": "tcell_cytokines", "questions": most}]}, "r")
        with pytest.raises(Error, match="questions must be a whole number"):
            wrong.open_sources()


def test_what_a_plugin_raises_about_its_options_names_the_plugin() -> None:
    @dataclasses.dataclass(frozen=True)
    class Picky:
        words: int = 1

        def __post_init__(self) -> None:
            if self.words < 1:
                raise ValueError("at least one word")

    with pytest.raises(Error, match=r"verifier picky: ValueError\('at least one word'\)"):
        build(Picky, {"words": 0}, "verifier picky")


def test_a_date_is_text_whether_quoted_or_not() -> None:
    recipe = load("quickstart", ["source={name: go_function, split_by: date, since: 2016-01-01}"])
    assert recipe.sources[0]["since"] == "2016-01-01"
    assert recipe.open_sources()[0][0].name == "go_function"
