"""The four things that flow through the loop: Question, Completion, Evidence, Verdict.

All are frozen dataclasses; a Question also travels as one JSON string, because Arrow would merge
the schemas of dictionaries from different tasks.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, get_args

Split = Literal["train", "validation", "test"]
SPLITS: tuple[str, ...] = get_args(Split)


class Error(Exception):
    """A mistake of the caller's: one line that says what is wrong, where, and what to do."""


class Reason(StrEnum):
    """Why a verdict was given. A closed set: it is logged, counted and filtered on."""

    CORRECT = "correct"
    WRONG = "wrong"
    PARTIAL = "partial"
    UNPARSED = "unparsed"  # no single well-formed answer of the task's type
    WELL_FORMED = "well_formed"
    MALFORMED = "malformed"
    MISSING = "missing"  # something the answer had to contain is absent
    STUFFED = "stuffed"  # it is there, but the text is padded with it
    SUPPORTED = "supported"  # every checked statement is in the knowledge base
    CONTRADICTED = "contradicted"  # a statement is denied there (its absence alone is not a denial)
    UNKNOWN = "unknown"  # statements were found, none of which can be checked
    VAGUE = "vague"  # what was stated holds of so much that it says nothing
    INVENTED = "invented"  # an identifier that does not exist
    OBSOLETE = "obsolete"  # an identifier that is no longer current
    TOO_LONG = "too_long"
    REPETITIVE = "repetitive"
    BELIEF = "belief"  # a soft verifier's probability of the answer
    UNCOVERED = "uncovered"  # the verifier knows nothing of this question: abstains
    UNSURE = "unsure"  # what it knows lies too near to an even guess: abstains
    NOT_APPLICABLE = "not_applicable"
    ERROR = "error"  # set by the reward layer alone, never by a verifier


@dataclass(frozen=True)
class Question:
    """One question.

    fields: what a prompt may show. truth: what verifiers and shortcuts may see, never the prompt;
    `truth["answer"]` is the label. Both hold JSON values only.
    """

    id: str
    task: str
    fields: Mapping[str, Any]
    truth: Mapping[str, Any]
    source: str
    split: str

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise Error(f"question {self.id}: split {self.split!r} is not one of {', '.join(SPLITS)}")

    @property
    def cluster(self) -> str:
        """What intervals are resampled over: the perturbation, else the group that the source names in the
        truth, else the question itself."""
        return str(self.fields.get("perturbation") or self.truth.get("group") or self.id)

    @property
    def readout(self) -> str:
        """What is read out, within its context: a gene in two cell lines is two readouts. "" where nothing is."""
        readout = self.fields.get("readout")
        return f"{self.truth.get('context', '')}:{readout}" if readout else ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Question:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Completion:
    """What the policy wrote. `answer` is None unless exactly one well-formed answer of the task's
    type was given; `finished` is False when generation was cut off; `turns` holds the messages of a
    multi-turn rollout."""

    text: str
    thought: str | None
    answer: str | None
    finished: bool = True
    turns: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Evidence:
    """A fact that a verdict rests on, and where it is written."""

    source: str
    record: str
    statement: str
    supports: bool


@dataclass(frozen=True)
class Verdict:
    """A verifier's output. `score` lies in [0, 1]; None means that the verifier abstains, which must
    depend on the question alone, never on the completion."""

    score: float | None
    reason: Reason
    evidence: tuple[Evidence, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.score is not None and not (math.isfinite(self.score) and 0.0 <= self.score <= 1.0):
            raise ValueError(f"score {self.score!r} is outside [0, 1]")
        if (self.score is None) != (self.reason in ABSTENTIONS):
            raise ValueError(f"score {self.score!r} does not fit reason {self.reason!r}")


ABSTENTIONS = frozenset({Reason.UNCOVERED, Reason.UNSURE, Reason.NOT_APPLICABLE, Reason.ERROR})


def suggest(name: str, known: Iterable[str]) -> str:
    """', did you mean X?' or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""
