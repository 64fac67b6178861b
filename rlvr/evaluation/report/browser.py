"""The rollouts of a run as the page's script reads them: a sample of whole groups, as JSON, and what was left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rlvr.evaluation.report import rows
from rlvr.evaluation.report.marks import Fact, Segment, facts, mark
from rlvr.evaluation.report.text import clip, count, finite
from rlvr.invisible import printable

LIMIT = 5000  # rollouts on the page
CHARACTERS = 12_000_000  # of their JSON
HEAD, TAIL = 15_000, 5_000  # of one completion
PROMPT = 6000
Json = dict[str, Any]


@dataclass(frozen=True)
class Browser:
    """`data` is what the script reads; `shown` says in a sentence which rollouts it holds."""

    data: Json
    shown: str
    counts: dict[str, dict[str, int]]  # stage -> outcome -> rollouts, over all rows
    failed: int  # rows in which a verifier failed, over all rows


class Prompts:
    """Each prompt once; `at` gives its place."""

    def __init__(self) -> None:
        self.all: list[list[tuple[str, str]]] = []
        self._places: dict[str, int] = {}

    def at(self, prompt: Any) -> int:
        turns = messages(prompt)
        key = json.dumps(turns)
        if key not in self._places:
            self._places[key] = len(self.all)
            self.all.append(turns)
        return self._places[key]


def messages(prompt: Any) -> list[tuple[str, str]]:
    """(role, text) of a prompt kept as a string, as messages or as messages in JSON; fit to be read."""
    if isinstance(prompt, str):
        with suppress(ValueError, RecursionError):
            prompt = json.loads(prompt) if prompt.startswith("[") else prompt
    if prompt is None or isinstance(prompt, str):
        return [("prompt", printable(prompt or "", PROMPT))]
    turns = [turn for turn in prompt if isinstance(turn, Mapping)]
    return [
        (printable(str(turn.get("role") or ""), 40), printable(str(turn.get("content") or ""), PROMPT))
        for turn in turns
    ]


def browser(found: pd.DataFrame, limit: int = LIMIT) -> Browser | None:
    """The page's rollouts, from `rows.index`; None where the run kept none."""
    if len(found) == 0:
        return None
    prompts = Prompts()
    kept: list[Json] = []
    size = 0
    for line, row in rows.fetch(rows.choose(found, limit)):
        before = len(prompts.all)
        record = _record(line, row, prompts)
        size += sum(len(json.dumps(part)) for part in (record, prompts.all[before:]))
        if size > CHARACTERS and kept and kept[-1]["u"] != record["u"]:
            break
        kept.append(record)
    failed = int(found["failed"].sum())
    shown = sum(record["e"] for record in kept)
    stages = list(dict.fromkeys(found["stage"]))
    by_stage = found.groupby(["stage", "outcome"]).size()
    counts = {s: {o: int(by_stage[s, o]) for o in rows.OUTCOMES if (s, o) in by_stage} for s in stages}
    data = {"rows": kept, "prompts": prompts.all, "stages": stages}
    return Browser(data, _shown(len(kept), len(found), shown, failed), counts, failed)


def _shown(kept: int, of: int, failed: int, all_failed: int) -> str:
    """'5,000 of 100,000 rollouts, in whole groups chosen by hash, ...'"""
    if kept == of:
        return f"All {count(of)} rollouts of this run."
    which = "all of those" if failed == all_failed else f"{count(failed)} of the {count(all_failed)} rollouts"
    failures = f", {which} in which a verifier failed included" if all_failed else "; in none did a verifier fail"
    return f"{count(kept)} of {count(of)} rollouts, in whole groups chosen by hash{failures}."


def text_of(row: rows.Row) -> tuple[str, str, str]:
    """The completion fit to be read: its beginning, a note of what was cut out, its end."""
    part = clip(str(row.get("completion") or ""), HEAD, TAIL, lines=10**9)
    head, tail = (printable(piece, len(piece)) for piece in (part.head, part.tail))
    return head, f"[… {count(part.omitted)} characters are not in this page …]" if part.omitted else "", tail


def _record(line: rows.Row, row: rows.Row, prompts: Prompts) -> Json:
    """One rollout under short keys, for there are thousands: rlvr/evaluation/report/templates/browser.js names them."""
    verdicts = [_verdict(row, key.removesuffix("/reason")) for key in row if key.endswith("/reason")]
    checked = [fact for verdict in verdicts for fact in verdict.pop("facts")]
    head, note, tail = text_of(row)
    pieces: list[Segment] = [*mark(head, checked), *([(note, "cut", "")] if note else []), *mark(tail, checked)]
    step = finite(row.get("step"))
    return {
        "u": f"{line['stage']}|{line['unit']}",
        "q": printable(str(row.get("question_id") or ""), 300),
        "t": printable(str(row.get("task") or ""), 100),
        "s": line["stage"],
        "n": None if step is None else int(step),
        "a": _shortened(row.get("answer")),
        "y": _shortened(row.get("truth")),
        "o": line["outcome"],
        "e": bool(line["failed"]),
        "f": row.get("finished") is not False,
        "r": _rounded(row.get("reward")),
        "d": _rounded(row.get("advantage")),
        "p": prompts.at(row.get("prompt")),
        "c": pieces,
        "v": [[v["name"], v["score"], v["reason"], v["error"]] for v in verdicts],
        "k": [[fact.status, fact.told] for fact in checked],
    }


def _verdict(row: rows.Row, name: str) -> Json:
    found: list[Fact] = facts(printable(name, 60), row.get(f"{name}/evidence"))
    error = row.get(f"{name}/error")
    return {
        "name": printable(name, 60),
        "score": _rounded(row.get(name)),
        "reason": printable(str(row.get(f"{name}/reason") or ""), 60).replace("_", " "),
        "error": printable(str(error), 2000) if error else "",
        "facts": found,
    }


def _shortened(found: Any) -> str | None:
    return None if found is None or found != found else printable(str(found), 200)


def _rounded(found: Any) -> float | None:
    value = finite(found)
    return None if value is None else round(value, 4)
