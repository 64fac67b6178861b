"""Recipes of published methods, and what they are made with: `extends`, and one verifier under two names.

That each opens, and pays honest play more than cheats, is tested for all recipes (test_recipe.py, test_testing.py)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rlvr.completions import reference
from rlvr.loading import reward_layer, templates
from rlvr.prompts import load as load_prompt
from rlvr.recipe import BUILT_IN, load
from rlvr.testing.questions import sample_questions
from rlvr.types import Error

VARIANTS = ("exp", "mlp", "tf", "go", "go-c", "go-f", "go_exp", "tf_exp", "tf_go_exp", "tf_go_mlp", "tf_go_mlp_exp")
JUDGES = {"exp": {"label"}, "mlp": {"mlp"}, "tf": {"tf"}, "go": {"neighbours", "claims"}}
EFFECT = "perturbation/effect"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_differs_in_its_judges_alone(variant: str) -> None:
    base, own = load("rbio1_exp"), load(f"rbio1_{variant}")
    assert dataclasses.replace(own, verifiers=base.verifiers, output_dir=base.output_dir) == base
    parts = [part.partition("-")[0] for part in variant.split("_")]
    expected = {judge for part in parts for judge in JUDGES[part]}
    if "-" in variant:
        expected = expected - {"claims"} | {"rouge"}
    assert set(own.verifiers) == expected | {"format", "mention"}
    weights = {name: values["weight"] for name, values in own.verifiers.items()}
    assert (weights["format"], weights["mention"]) == (1.0, 1.0)
    assert sum(weights[judge] for judge in expected) == pytest.approx(2.0, abs=0.03)


def with_tables() -> list[tuple[str, str]]:
    names = sorted(path.stem for path in BUILT_IN.glob("*.yaml"))
    found = [(name, judge) for name in names for judge, v in load(name).verifiers.items() if "predictions" in v]
    assert len(found) >= 9
    return found


@pytest.mark.parametrize(("name", "judge"), with_tables())
def test_a_missing_table_is_one_error_with_the_command_that_makes_it(
    name: str, judge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is the one of the recipe's head, and names the folder that the table is read from."""
    monkeypatch.chdir(tmp_path)
    recipe = load(name)
    recipe = dataclasses.replace(recipe, verifiers={judge: recipe.verifiers[judge]})
    made_by, table = recipe.verifiers[judge]["made_by"], Path(recipe.verifiers[judge]["predictions"])
    assert f"#   {made_by}\n" in (BUILT_IN / f"{name}.yaml").read_text()
    assert made_by.startswith("rlvr oracle fit perturbqa:") and made_by.endswith(f"--out {table.parent}")
    assert f"task={table.stem}" in made_by
    with pytest.raises(Error) as caught:
        reward_layer(recipe, {})
    assert str(caught.value).endswith(f"{table}: no such file; make it: {made_by}")


@pytest.mark.perturbqa
@pytest.mark.parametrize("name", ["rbio1_go", "perturbqa_soft_hard"])
def test_their_data_is_there(name: str) -> None:
    (source, _), *others = load(name).open_sources()
    question = next(iter(source.questions()))
    assert others == [] and question.fields["evidence"] and question.task in templates(load(name), [question.task])


# One verifier under two names.
def test_two_oracles_judge_beside_each_other(tmp_path: Path) -> None:
    question = sample_questions(EFFECT)[0]
    where = (question.truth["context"], question.fields["perturbation"], question.fields["readout"])
    for name, p in (("sure", 0.9), ("unsure", 0.4)):
        (tmp_path / f"{name}.csv").write_text("context,perturbation,readout,p\n" + ",".join([*where, str(p)]) + "\n")
    judges = [f"{name}: {{verifier: oracle, predictions: {tmp_path / name}.csv, most_error: null}}" for name in
              ("sure", "unsure")]  # fmt: skip
    recipe = load("rbio1_exp", [f"verifiers={{{', '.join(judges)}}}"])
    layer = reward_layer(recipe, {EFFECT: load_prompt(EFFECT)})
    (row,) = layer.score([question], [reference("So.", "yes")])
    assert (row["sure"], row["unsure"], row["reward"]) == pytest.approx((0.9, 0.4, 1.3))
    assert set(layer.verifiers) == {"sure", "unsure"}


# Extending.
def test_a_key_is_taken_whole_or_left_to_the_base(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: quickstart\nseed: 7\nverifiers: {label: {weight: 2.0}}\n")
    (tmp_path / "next.yaml").write_text("extends: mine\n")
    base, mine = load("quickstart"), load(str(tmp_path / "mine.yaml"), ["grpo.max_steps=3"])
    assert (mine.seed, mine.verifiers, mine.output_dir) == (7, {"label": {"weight": 2.0}}, "runs/mine")
    same = dataclasses.replace(mine, seed=base.seed, verifiers=base.verifiers, output_dir=base.output_dir)
    assert same == dataclasses.replace(base, grpo={**base.grpo, "max_steps": 3})
    assert load("quickstart") == base  # an override of one leaves the other alone
    with pytest.raises(Error, match="extends 'mine', which extends another"):
        load(str(tmp_path / "next.yaml"))
    (tmp_path / "lost.yaml").write_text("extends: ../quickstrat\n")
    with pytest.raises(Error, match="quickstrat', which is no recipe"):
        load(str(tmp_path / "lost.yaml"))
