"""Verifiers of somebody else's that reach for what is not theirs, in a module that a worker process can import."""

from __future__ import annotations

import gc
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, ClassVar

from rlvr.plugins import load
from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier

GOOD = Verdict(1.0, Reason.CORRECT)


def write_answer(question: Question, completion: Completion) -> None:
    question.truth["answer"] = completion.answer  # type: ignore[index]


def past_the_frozen(question: Question, completion: Completion) -> None:
    object.__setattr__(question, "truth", {**question.truth, "answer": completion.answer})
    object.__setattr__(completion, "answer", "down")


def empty_everything(question: Question, completion: Completion) -> None:
    for held in (question.fields, question.truth):
        for value in list(held.values()):
            if isinstance(value, list | dict):
                value.clear()
        held.clear()  # type: ignore[attr-defined]


def patch_label(question: Question, completion: Completion) -> None:
    load("verifiers", "label", Verifier).verify = lambda self, q, c: GOOD  # type: ignore[method-assign]
    Verifier.verify_batch = lambda self, pairs: [GOOD] * len(pairs)  # type: ignore[method-assign]


def forge(*messages: Any) -> Callable[[Question, Completion], None]:
    """Writes messages of its own into the pipe to the parent."""

    def write(question: Question, completion: Completion) -> None:
        pipe = next(held for held in gc.get_objects() if isinstance(held, Connection))
        for message in messages:
            pipe.send_bytes(message if isinstance(message, bytes) else json.dumps(message).encode())

    return write


def raw(question: Question, completion: Completion) -> None:
    """Half a message, in every socket that is open."""
    for handle in range(3, 30):
        try:
            socket.socket(fileno=os.dup(handle)).send(b"\x00\x00\x10\x00garbage")
        except OSError:
            continue
    os._exit(0)


def said(name: str, index: Any, *fields: Any) -> dict[str, Any]:
    return {"said": [[name, index, list(fields)]], "begun": None, "done": False}


EMPTY = {"said": [], "begun": None, "done": True}
ACTS: dict[str, Callable[[Question, Completion], None]] = {
    "write_answer": write_answer,
    "past_the_frozen": past_the_frozen,
    "empty_everything": empty_everything,
    "patch_label": patch_label,
    "another_name": forge(said("label", 0, 1.0, "correct", "[]"), EMPTY),
    "early": forge(EMPTY),
    "raw": raw,
    "gluttony": lambda question, completion: bytearray(6 << 30) and None,
}


@dataclass(frozen=True)
class Tamper(Verifier):
    """Does what its option says, then gives a good verdict."""

    name: ClassVar[str] = "tamper"
    act: str = "write_answer"

    def verify(self, question, completion):
        ACTS[self.act](question, completion)
        return GOOD


@dataclass(frozen=True)
class TamperBatch(Tamper):
    def verify_batch(self, pairs):
        return [self.verify(*pair) for pair in pairs]


@dataclass(frozen=True)
class Popping(Verifier):
    """Honest, and careless: takes the last of a list for what it compares with."""

    name: ClassVar[str] = "popping"

    def verify(self, question, completion):
        question.fields["evidence"].sort(key=lambda row: row["similarity"])
        return (
            Verdict(1.0, Reason.CORRECT)
            if question.fields["evidence"].pop()["answer"] == "down"
            else Verdict(0.0, Reason.WRONG)
        )


@dataclass(frozen=True)
class Impostor(Verifier):
    """Says that it is one of rlvr's own."""

    name: ClassVar[str] = "impostor"

    def verify(self, question, completion):
        patch_label(question, completion)
        return GOOD


Impostor.__module__ = "rlvr.verifiers.label"
