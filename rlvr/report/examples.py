"""Picks rollouts and answers to show, by a fixed rule and never by hand: the last of each kind in the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rlvr.report.text import Clip, clip, finite

OUTCOMES = ("right", "wrong", "unparsed")
PER_OUTCOME = 3
PAIRS = 6  # before/after pairs shown
FILES = 40  # of rollouts read, from the end of the run
FACTS, FACT = 8, 300  # facts of one verdict, and characters of each
Record = Mapping[str, Any]
Prompt = list[tuple[str, Clip]]  # role and text of each message


@dataclass(frozen=True)
class Judged:
    """One verifier's verdict on one completion; score None = abstained."""

    verifier: str
    score: float | None
    reason: str
    error: str | None
    evidence: list[str]  # each fact consulted, as one line


@dataclass(frozen=True)
class Example:
    question_id: str
    step: int | None
    outcome: str
    prompt: Prompt
    completion: Clip
    answer: str | None
    finished: bool
    reward: float | None
    advantage: float | None
    verdicts: list[Judged]


@dataclass(frozen=True)
class Rollouts:
    by_outcome: dict[str, list[Example]]
    group: list[Example]  # one whole group whose rewards differ
    counts: dict[str, int]  # outcome -> rollouts among those read
    files: int
    files_read: int
    errors: int  # verdicts that are errors, among those read


@dataclass(frozen=True)
class Answer:
    """What one stage said to a question."""

    stage: str
    answer: str | None
    completion: Clip
    probability: float | None  # of the true label, at the forced slot


@dataclass(frozen=True)
class Pair:
    question_id: str
    perturbation: str
    readout: str
    context: str
    label: str
    change: str
    prompt: Prompt
    answers: list[Answer]


def read_parquet(paths: Sequence[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the files, missing values as None, and the names of files that could not be read."""
    rows: list[dict[str, Any]] = []
    unread = []
    for path in paths:
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
            unread.append(f"{path.name} ({type(error).__name__})")
            continue
        frame = frame.astype(object).where(frame.notna(), None)
        rows += [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
    return rows, unread


def messages(prompt: Any) -> Prompt:
    """(role, text) of a prompt kept as a string, as messages or as messages in JSON."""
    if isinstance(prompt, str):
        with suppress(ValueError, RecursionError):
            prompt = json.loads(prompt) if prompt.startswith("[") else prompt
    if prompt is None or isinstance(prompt, str):
        return [("prompt", _long(prompt or ""))]
    turns = [turn for turn in prompt if isinstance(turn, Mapping)]
    return [(str(turn.get("role") or ""), _long(str(turn.get("content") or ""))) for turn in turns]


def _long(text: str) -> Clip:
    return clip(text, head=3000, tail=1000, lines=60)


def _text(found: Any) -> str:
    return "" if found is None else str(found)


def _verdicts(row: Record) -> list[Judged]:
    names = [key.removesuffix("/reason") for key in row if key.endswith("/reason")]
    return [
        Judged(
            verifier=name,
            score=finite(row.get(name)),
            reason=_text(row.get(f"{name}/reason")),
            error=_text(row.get(f"{name}/error")) or None,
            evidence=_evidence(row.get(f"{name}/evidence")),
        )
        for name in names
    ]


def _evidence(found: Any) -> list[str]:
    """One line per fact of a verdict's evidence, kept as JSON: what it says and where it is written."""
    try:
        items = json.loads(found) if isinstance(found, str) else []
    except (ValueError, RecursionError):
        items = []
    facts = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return [
        f"{_text(fact.get('statement'))[:FACT]} ({_text(fact.get('source'))}, {_text(fact.get('record'))[:FACT]}; "
        f"{'for' if fact.get('supports') else 'against'} the answer)"
        for fact in facts[:FACTS]
    ]


def outcome(row: Record) -> str:
    """right, wrong or unparsed; 'ungraded' where no verifier called the answer correct or wrong."""
    if row.get("answer") is None:
        return "unparsed"
    reasons = {value for key, value in row.items() if key.endswith("/reason")}
    return "wrong" if "wrong" in reasons else "right" if "correct" in reasons else "ungraded"


def _example(row: Record) -> Example:
    step = finite(row.get("step"))
    return Example(
        question_id=_text(row.get("question_id")),
        step=None if step is None else int(step),
        outcome=outcome(row),
        prompt=messages(row.get("prompt")),
        completion=clip(_text(row.get("completion"))),
        answer=row.get("answer"),
        finished=bool(row.get("finished", True)),
        reward=finite(row.get("reward")),
        advantage=finite(row.get("advantage")),
        verdicts=_verdicts(row),
    )


def rollouts(folder: Path) -> tuple[Rollouts | None, list[str]]:
    """Examples from the last FILES rollout files, and the names of those that could not be read."""
    paths = sorted(folder.glob("*.parquet"))
    rows, unread = read_parquet(paths[-FILES:])
    if not rows:
        return None, unread
    shown: dict[str, list[Example]] = {name: [] for name in OUTCOMES}
    counts: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    for row in reversed(rows):
        kind = outcome(row)
        counts[kind] = counts.get(kind, 0) + 1
        mark = (kind, _text(row.get("question_id")))
        if kind in shown and mark not in seen and len(shown[kind]) < PER_OUTCOME:
            seen.add(mark)
            shown[kind].append(_example(row))
    counts = {kind: counts[kind] for kind in (*OUTCOMES, "ungraded") if kind in counts}
    errors = sum(bool(value) for row in rows for key, value in row.items() if key.endswith("/error"))
    return Rollouts(shown, _group(rows), counts, len(paths), min(len(paths), FILES), errors), unread


def _group(rows: Sequence[Record]) -> list[Example]:
    """The last group with both a right and a wrong or unparsed answer; failing that, with unequal rewards."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for row in rows:
        groups.setdefault(tuple(_text(row.get(key)) for key in ("step", "group", "question_id")), []).append(row)
    uneven = [g for g in reversed(groups.values()) if len({_text(row.get("reward")) for row in g}) > 1]
    mixed = [g for g in uneven if "right" in (kinds := {outcome(row) for row in g}) and len(kinds) > 1]
    return [_example(row) for row in next(iter([*mixed, *uneven]), [])]


def before_after(folder: Path, stages: Mapping[str, str]) -> tuple[list[Pair], dict[str, int], list[str]]:
    """Held-out questions answered at the first and at the last stage that were evaluated: a few of each kind
    of change, and how many questions changed how. `stages` maps file stems to names, in order."""
    present = [(name, folder / f"{stem}.parquet") for stem, name in stages.items()]
    present = [(name, path) for name, path in present if path.is_file()]
    if len(present) < 2:
        return [], {}, []
    (first_name, first_path), (last_name, last_path) = present[0], present[-1]
    first, first_unread = read_parquet([first_path])
    last, last_unread = read_parquet([last_path])
    firsts, lasts = _by_question(first), _by_question(last)
    kinds: dict[str, list[Pair]] = {}
    for key, row in lasts.items():
        if key in firsts:
            change = f"{_grade(firsts[key])} → {_grade(row)}"
            kinds.setdefault(change, []).append(_pair(firsts[key], row, (first_name, last_name), change))
    turns = [pairs[place] for place in range(PAIRS) for pairs in kinds.values() if place < len(pairs)]
    counts = {change: len(kinds[change]) for change in sorted(kinds)}
    return turns[:PAIRS], counts, first_unread + last_unread


def _by_question(rows: Sequence[Record]) -> dict[str, Record]:
    """The first sample of each question."""
    found: dict[str, Record] = {}
    for row in rows:
        found.setdefault(_text(row.get("question_id")), row)
    return found


def _grade(row: Record) -> str:
    answer = row.get("answer")
    return "unparsed" if answer is None else "right" if answer == row.get("truth") else "wrong"


def _pair(first: Record, last: Record, names: tuple[str, str], change: str) -> Pair:
    truth = _text(last.get("truth"))
    answers = [
        Answer(name, row.get("answer"), clip(_text(row.get("completion"))), finite(row.get(f"p/{truth}")))
        for name, row in zip(names, (first, last), strict=True)
    ]
    return Pair(
        question_id=_text(last.get("question_id")),
        perturbation=_text(last.get("perturbation")),
        readout=_text(last.get("readout")),
        context=_text(last.get("context")),
        label=truth,
        change=change,
        prompt=messages(last.get("prompt")),
        answers=answers,
    )
