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
from rlvr.yaml_file import each_once

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


@given(st.integers(0, 2**32 - 1), st.floats(0, 10), st.booleans())
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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grpo.max_steps=five", "grpo.max_steps must be int, not 'five'"),
        ("grpo.max_steps='5'", "grpo.max_steps must be int, not '5'"),
        ("grpo.learning_rate=.nan", "grpo.learning_rate must be a finite number, not nan"),
        ("sft.learning_rate=-1", "sft.learning_rate must be at least 0, not -1"),
        ("grpo.num_generations=0", "grpo.num_generations must be at least 1, not 0"),
        ("grpo.max_completion_length=-5", "grpo.max_completion_length must be at least 1, not -5"),
        ("grpo.temperature=0", "grpo.temperature must be above 0, not 0"),
        ("grpo.top_p=2", "grpo.top_p must be at most 1, not 2"),
        ("sft.per_device_train_batch_size=true", "sft.per_device_train_batch_size must be int, not True"),
        ("deadline=-1", "deadline must be above 0, not -1"),
        ("deadline=.inf", "deadline must be a finite number, not inf"),
        ("max_error_rate=7", "max_error_rate must be at most 1, not 7"),
        ("max_error_rate=-0.1", "max_error_rate must be at least 0, not -0.1"),
        ("seed=-1", "seed must be at least 0, not -1"),
        ("seed=4294967296", "seed must be below 4.29497e+09, not 4294967296"),
        ("seed=", "seed must be int, not None"),
        ("evaluation.batch_size=0", "evaluation: batch_size must be at least 1, not 0"),
        ("evaluation.resamples=0", "evaluation: resamples must be at least 1, not 0"),
        ("evaluation.questions=0", "evaluation: questions must be at least 1, not 0"),
        ("evaluation.stages=[befor]", "evaluation: stages must be one of 'before', 'warm_start', 'after', not 'befor'"),
        ("evaluation.budget.minutes=-2", "evaluation: budget: minutes must be at least 0, not -2"),
        ("learning.rounds=-1", "learning: rounds must be at least 0, not -1"),
        ("watch.kl.patience=0", "watch: kl: patience must be at least 1, not 0"),
        ("watch.kl.limit=.nan", "watch: kl: limit must be a finite number, not nan"),
        ("watch.floor=0", "watch: floor must be above 0, not 0"),
        ("vllm.enabled=1", "vllm: enabled must be bool, not 1"),
        ("vllm=yes", "vllm must be a section of keys, not True"),
        ("model=3", "model must be str, not 3"),
        ("prompt=[1]", "prompt must be str, not 1"),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range_is_one_line(override: str, message: str) -> None:
    with pytest.raises(Error) as caught:
        load("quickstart", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "1", True, {}, {-1: 1.0}, {0: float("nan")}])
def test_a_weight_is_a_finite_number_of_at_least_0(weight: object) -> None:
    with pytest.raises(Error, match=r"verifiers\.label\.weight must be a number of at least 0"):
        build(Recipe, {**MINIMAL, "verifiers": {"label": {"weight": weight}}}, "r").open_verifiers()


def test_a_misspelt_weight_is_suggested() -> None:
    with pytest.raises(Error, match="unknown key 'weigth', did you mean 'weight'"):
        build(Recipe, {**MINIMAL, "verifiers": {"label": {"weigth": 1.0}}}, "r").open_verifiers()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["=1"], "write key=value"),
        (["grpo.=1"], "write key=value"),
        (["grpo..max_steps=1"], "write key=value"),
        (["seed=[1"], "override 'seed=[1': not valid YAML"),
        (["grpo={max_steps: 1, max_steps: 2}"], "'max_steps' is given twice"),
        (["grpo.max_steps.deep=1"], "grpo.max_steps is not a section"),
        (["sft=null", "sft.max_steps=1"], "sft is not a section"),
    ],
)
def test_a_wrong_override_is_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(Error) as caught:
        load("quickstart", overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_typed_twice_on_a_command_line_is_refused() -> None:
    assert each_once(None) == []
    assert each_once(["seed=1", "grpo.seed=1"]) == ["seed=1", "grpo.seed=1"]
    with pytest.raises(Error, match="seed is given twice"):
        each_once(["seed=1", "model=x", "seed=2"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"model: a\nseed: 1\nseed: 2\n", "key 'seed' is given twice, again in line 3"),
        (b"grpo: {max_steps: 1, 'max_steps': 2}\n", "key 'max_steps' is given twice"),
        (b"- model\n", "must be a mapping"),
        (b"model: \xff\n", "is not text in UTF-8"),
        (b"[" * 5000, "not valid YAML"),
        (b"? {a: 1}\n: 2\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text)
    with pytest.raises(Error) as caught:
        load(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_options_of_a_plugin_may_be_nested() -> None:
    @dataclasses.dataclass(frozen=True)
    class Rule:
        gene: str
        share: float = 0.5

    made = _rules(Rule)
    rules = build(made, {"rules": [{"gene": "MYC", "share": 1}], "pair": [1, 2]}, "verifier rules")
    assert rules == made(rules=(Rule("MYC", 1.0),), pair=(1, 2))
    for values, message in (
        ({"rules": [{"gen": "MYC"}]}, "unknown key 'gen', did you mean 'gene'?"),
        ({"rules": ["MYC"]}, "rules must be a section of keys, not 'MYC'"),
        ({"pair": [1, "b"]}, "pair must be int, not 'b'"),
        ({"pair": [1]}, "pair must be a longer list"),
        ({"limit": float("inf")}, "limit must be a finite number, not inf"),
    ):
        with pytest.raises(Error) as caught:
            build(made, values, "verifier rules")
        assert message in str(caught.value)


def _rules(rule: type) -> type:
    """A plugin's class, made here so that its types are real ones and not text."""
    fields = [
        ("rules", tuple[rule, ...], dataclasses.field(default=())),  # type: ignore[valid-type]
        ("pair", tuple[int, int], dataclasses.field(default=(0, 0))),
        ("limit", float, dataclasses.field(default=1.0)),
    ]
    return dataclasses.make_dataclass("Rules", fields, frozen=True)
