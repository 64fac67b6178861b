"""Planted flaw, for `coverage` to find: abstains on everything, so nothing of it was ever tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Mute(Verifier):
    name: ClassVar[str] = "mute"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        return Verdict(None, Reason.UNCOVERED)
