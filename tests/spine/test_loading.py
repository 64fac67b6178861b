"""What a recipe opens before it trains."""

from __future__ import annotations

import pytest

from rlvr import knowledge
from rlvr.evaluation.provenance import versions
from rlvr.knowledge import KnowledgeBase
from rlvr.knowledge import base as opened_bases
from rlvr.loading import reward_layer, templates
from rlvr.recipe import Recipe


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
