"""Planted flaw, for `catches` to find: says that it catches stuffed gene names, and does not look for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Overconfident(Verifier):
    name: ClassVar[str] = "overconfident"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    catches: ClassVar[frozenset[str]] = frozenset({"stuffed_genes"})

    def verify(self, question: Question, completion: Completion) -> Verdict:
        ok = completion.thought is not None
        return Verdict(float(ok), Reason.WELL_FORMED if ok else Reason.MALFORMED)
