"""What held-out questions share with training: one piece for training, for the report and for `rlvr data audit`.

Every question is reduced to keys (what it perturbs, what it reads out, the pair, the group), in current symbols. A
training question, and every measurement that its prompt shows, leaves its keys; a held-out question that finds one of
its own among them is given away. Tasks of one area (`perturbation/effect`, `perturbation/direction`) are one: who has
been told in which direction a gene changes knows that it does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlvr.questions.splits.kin import Kin, Tie
from rlvr.types import Error, Question

log = logging.getLogger(__name__)

SUBJECTS = ("perturbation", "tf", "gene")  # the field that says what a question is about
OBJECTS = ("readout", "target")
FATAL = ("perturbation", "pair", "group")  # the kinds that are a leak; the others are strata
TIES: Mapping[str, Tie] = {"complex partner": "complex", "paralog": "family"}
Key = tuple[str, ...]


@dataclass(frozen=True)
class About:
    """What a question asks about, in the names that it uses.

    area: "perturbation" of "perturbation/effect". what, on: the kinds of its subject and object ("perturbation",
    "readout"). group: what its source keeps together, where it perturbs nothing; family: its homologous family, where
    the source names one.
    """

    area: str
    what: str
    subjects: tuple[str, ...]
    on: str
    objects: tuple[str, ...]
    context: str
    group: str
    family: str

    @classmethod
    def of(cls, question: Question) -> About:
        fields, truth = question.fields, question.truth
        area, _, kind = question.task.partition("/")
        what = next((name for name in SUBJECTS if fields.get(name)), "")
        on = next((name for name in OBJECTS if fields.get(name)), "")
        subjects: tuple[str, ...] = (str(fields[what]),) if what else ()
        objects: tuple[str, ...] = (str(fields[on]),) if on else ()
        if area == "perturbation" and kind == "ranking":  # of perturbed genes, by their effect on one readout
            what, subjects = "perturbation", tuple(map(str, fields["genes"]))
        if area == "perturbation" and kind == "profile":  # of the genes that one perturbation changes
            on, objects = "readout", tuple(map(str, fields["genes"]))
        group = "" if what == "perturbation" else str(truth.get("group") or "")
        family = "" if what else str(truth.get("family") or "")
        return cls(area, what, subjects, on, objects, str(truth.get("context", "")), group, family)


@dataclass(frozen=True)
class Told:
    """One thing that training tells: the answer to a question, or a measurement that its prompt shows."""

    task: str
    answer: Any
    keys: tuple[Key, ...]


def told(train: Iterable[Question], kin: Kin) -> Iterator[Told]:
    """What training tells, each measurement once."""
    shown: dict[Key, Told] = {}
    seen: set[Key] = set()
    for question in train:
        about = About.of(question)
        yield Told(question.task, question.truth["answer"], tuple(_keys(about, kin)))
        if about.what != "perturbation" or not about.on:
            continue
        place = (question.task, about.context, kin.id(about.objects[0]))
        seen.update((*place, kin.id(subject)) for subject in about.subjects)
        for item in question.fields.get("evidence", ()):
            name = str(item["perturbation"])
            measurement = (*place, kin.id(name))
            if measurement not in shown:
                other = About(about.area, about.what, (name,), about.on, about.objects, about.context, "", "")
                shown[measurement] = Told(question.task, item["answer"], tuple(_keys(other, kin)))
    yield from (measured for measurement, measured in shown.items() if measurement not in seen)


def _keys(about: About, kin: Kin) -> Iterator[Key]:
    area, context = about.area, about.context
    objects = [kin.id(name) for name in about.objects]
    for subject in map(kin.id, about.subjects):
        yield ("subject", area, subject)
        yield ("context", area, subject, context)
        for name in objects:
            yield ("pair", area, subject, name)
    for name in objects:
        yield ("object", area, name)
    if about.group:
        yield ("group", area, context, kin.id(about.group) if about.group in about.subjects else about.group)
    if about.family:
        yield ("family", area, about.family)


class Seen:
    """The keys of all that training tells, ready to be asked for those of a held-out question."""

    def __init__(self, measured: Iterable[Told], kin: Kin) -> None:
        self.kin = kin
        self.keys: set[Key] = set()
        for one in measured:
            self.keys.update(one.keys)
        self._contexts: dict[str, set[str]] = {}
        for kind, area, *rest in self.keys:
            if kind == "context":
                self._contexts.setdefault(area, set()).add(rest[1])

    @cached_property
    def _related(self) -> dict[tuple[Tie, str, str], set[str]]:
        """(by, area, tie) -> the subjects in training that it ties."""
        found: dict[tuple[Tie, str, str], set[str]] = {}
        for kind, area, subject, *_ in self.keys:
            species, mark, symbol = subject.partition(":")
            if kind == "subject" and mark and species in ("human", "mouse"):
                for by in TIES.values():
                    for tie in self.kin.ties(symbol, by):
                        found.setdefault((by, area, tie), set()).add(subject)
        return found

    def kinds(self, about: About) -> list[str]:
        """The kinds of overlap that such a question can have."""
        found = [about.what, "pair" if about.what and about.on else "", about.on]
        found += ["context"] if about.what == "perturbation" else []
        found += [*TIES] if about.what else ["paralog"] if about.family else []
        return [kind for kind in (*found, "group" if about.group else "") if kind]

    def shared(self, about: About, fatal: bool = False) -> dict[str, list[Key]]:
        """Kind of overlap -> the keys that training holds of it; a kind without one is left out. fatal: only the
        kinds that are a leak. Of relatives, the keys are of their pairs with the same object, of which there may be
        none; where no object is asked for, their own.
        """
        area, kin = about.area, self.kin
        own = sorted({i for name in about.subjects for i in kin.same(name)})
        on = sorted({i for name in about.objects for i in kin.same(name)})
        wanted: dict[str, list[Key]] = {
            about.what: [("subject", area, i) for i in own],
            "pair": [("pair", area, i, o) for i in own for o in on],
            "group": self._group(about),
        }
        if not fatal:
            elsewhere = sorted(self._contexts.get(area, set()) - {about.context})
            wanted["context"] = [("context", area, i, c) for i in own for c in elsewhere]
            wanted[about.on] = [("object", area, o) for o in on]
        found = {kind: held for kind, keys in wanted.items() if kind and (held := [k for k in keys if k in self.keys])}
        return found if fatal else found | self._relatives(about, own, on)

    def _group(self, about: About) -> list[Key]:
        if not about.group:
            return []
        names = self.kin.same(about.group) if about.group in about.subjects else {about.group}
        return [("group", about.area, about.context, name) for name in sorted(names)]

    def _relatives(self, about: About, own: Sequence[str], on: Sequence[str]) -> dict[str, list[Key]]:
        found: dict[str, list[Key]] = {}
        for kind, by in TIES.items():
            ties = {(by, about.area, tie) for name in about.subjects for tie in self.kin.ties(name, by)}
            others = sorted({i for tie in ties for i in self._related.get(tie, ())} - set(own))
            if others:
                pairs: list[Key] = [("pair", about.area, i, o) for i in others for o in on]
                measured = [key for key in pairs if key in self.keys]
                found[kind] = measured if on else [("subject", about.area, i) for i in others]
        if about.family and (key := ("family", about.area, about.family)) in self.keys:
            found["paralog"] = [key]
        return found


def names(questions: Iterable[Question]) -> set[str]:
    """Everything in the questions that may be a gene to look up."""
    found: set[str] = set()
    for question in questions:
        about = About.of(question)
        found.update(about.subjects)
    return found


def overlaps(train: Iterable[Question], held_out: Iterable[Question], kin: Kin | None = None) -> dict[str, int]:
    """How many held-out questions share with any training question of their area what they must not: the
    `perturbation` (in any cells, under any symbol), the `pair` of perturbation and readout, the `group` that their
    source names. Only kinds that these questions can have are told.

    kin: the names of genes; by default by the knowledge base that is at hand (`Kin.of`).
    """
    learned, asked = list(train), [About.of(question) for question in held_out]
    kin = kin or Kin.of(names(learned) | {name for about in asked for name in about.subjects})
    seen = Seen(told(learned, kin), kin)
    found = {kind: 0 for kind in FATAL if any(kind in seen.kinds(about) for about in asked)}
    for about in asked:
        for kind in seen.shared(about, fatal=True):
            if kind in found:
                found[kind] += 1
    return found


def refuse_leak(
    train: Iterable[Question], held_out: Iterable[Question], allowed: str = "", kin: Kin | None = None
) -> None:
    """Stop when training tells of a held-out perturbation, pair or group; `allowed`: the reason why it may."""
    asked = list(held_out)
    found = {kind: count for kind, count in overlaps(train, asked, kin).items() if count}
    if not found:
        return
    shared = ", ".join(f"{count} share their {kind}" for kind, count in found.items())
    said = f"training leaks: of {len(asked)} held-out questions {shared} with training"
    if not allowed.strip():
        raise Error(f"{said}; split by {next(iter(found))} (see `rlvr data audit`), or say in allow_leak why it may be")
    log.warning("%s; allowed: %s", said, allowed)
