"""What a recipe opens before it trains."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from rlvr import knowledge
from rlvr.evaluation.provenance import versions
from rlvr.knowledge import KnowledgeBase
from rlvr.knowledge import base as opened_bases
from rlvr.loading import check_answers, gather, reward_layer, templates
from rlvr.recipe import Recipe, load
from rlvr.types import Error


def test_the_knowledge_base_of_a_verifier_is_recorded_though_only_its_worker_asks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opened_bases, "_OPEN", {})
    verifiers = {"label": {}, "claims": {"knowledge": "sample"}}
    recipe = Recipe(model="none", source={"name": "tcell_cytokines"}, verifiers=verifiers, deadline=None)
    assert knowledge.opened() == {}
    reward_layer(recipe, templates(recipe, ["perturbation/response"]))
    base = KnowledgeBase.open("sample")
    assert knowledge.opened() == {base.path.stem: base.version}
    assert versions()[f"knowledge {base.path.stem}"] == base.version


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("UP", "prompt response.md has no answer 'UP'; it allows "),
        (None, "has no answer None"),
        (True, "has no answer True"),
        (["up"], "has no answer"),
    ],
)
def test_an_answer_that_the_prompt_does_not_allow_is_refused_before_anything_is_asked(
    answer: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load("quickstart")
    ((source, _),) = recipe.open_sources()
    questions = list(source.questions())
    check_answers(questions, {})
    *others, last = questions
    wrong = dataclasses.replace(last, truth={**last.truth, "answer": answer})
    monkeypatch.setattr(type(source), "questions", lambda self: iter([*others, wrong]))
    with pytest.raises(Error) as caught:
        gather(recipe)
    assert f"question {last.id}: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("words", ["--help", "verifiers list", "evaluate --help"])
def test_help_and_lists_do_not_load_torch(words: str) -> None:
    code = (
        "import sys\nfrom rlvr.cli import main\n"
        f"sys.argv = ['rlvr', *{words.split()!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
