"""Fixtures shared by several test modules: one question, made by hand, that can be varied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from rlvr.types import Question

# How fast a busy machine draws examples says nothing of the code.
settings.register_profile("rlvr", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rlvr")

FIELDS: dict[str, Any] = {
    "perturbation": "ZAP70",
    "readout": "IL-2",
    "context": "restimulated primary human CD4+ T cells",
    "modality": "CRISPRi knockdown",
    "evidence": [
        {"perturbation": "LAT", "answer": "down", "similarity": 71, "shared": "T cell receptor signaling pathway"},
        {"perturbation": "CBLB", "answer": "up", "similarity": 34, "shared": "signal transduction"},
    ],
}
TRUTH: dict[str, Any] = {
    "answer": "down",
    "neighbours": {"up": 0.25, "down": 0.75},
    "partners": None,
    "core": False,
    "annotations": 41,
    "context": "cd4_il2",
}


@pytest.fixture(scope="session")
def make_question() -> Callable[..., Question]:
    """make_question(fields={...}, truth={...}, id=..., task=..., split=...); keys replace the defaults."""

    def make(fields: Mapping[str, Any] = {}, truth: Mapping[str, Any] = {}, **options: str) -> Question:
        task = options.get("task", "perturbation/direction")
        return Question(
            id=options.get("id", f"hand:{task}:cd4_il2:ZAP70:IL-2"),
            task=task,
            fields={**FIELDS, **fields},
            truth={**TRUTH, **truth},
            source="hand",
            split=options.get("split", "train"),
        )

    return make
