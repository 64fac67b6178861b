"""What every test module shares: the session's rules (tests/session.py), and one question, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from rlvr.types import Question
from tests import session

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


@pytest.fixture(scope="session", autouse=True)
def closed_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No network, and nothing but what the repository and RLVR_DATA hold."""
    with pytest.MonkeyPatch.context() as patch:
        session.block_network(patch)
        session.empty_cache(tmp_path_factory.mktemp("cache"), patch)
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers():
        session.meet(mark.name)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    session.summary(terminalreporter)


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
