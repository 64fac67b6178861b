"""Verifiers that fail in every way there is, in a module that a worker process can import.

What happens is what the thought says: `<think>hang</think><answer>up</answer>`.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from rlvr.remote import Client, RemoteVerifier, together
from rlvr.types import Evidence, Reason, Verdict
from rlvr.verifier import Verifier


class Sloppy(Verdict):
    """A verdict that skips the checks of its class."""

    def __post_init__(self):
        pass


def act(command: str | None) -> object:
    """A fault, or a verdict that says who gave it."""
    if command == "raise":
        raise ValueError("the table is gone")
    if command == "memory":
        raise MemoryError
    if command == "hang":
        time.sleep(3600)
    if command == "spin":  # never lets go of the interpreter
        re.match("(a+)+$", "a" * 60 + "b")
    if command == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if command == "exit":
        os._exit(3)
    if command == "leave":
        sys.exit(4)
    if command == "segfault":
        ctypes.string_at(0)
    if command == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    faults = {"none": None, "number": 1, "nan": Sloppy(math.nan, Reason.BELIEF), "inf": Sloppy(math.inf, Reason.BELIEF)}
    if command in faults:
        return faults[command]
    return Verdict(
        1.0, Reason.CORRECT, (Evidence("process", str(os.getpid()), f"torch: {'torch' in sys.modules}", True),)
    )


@dataclass(frozen=True)
class Faulty(Verifier):
    """Does what the thought says; notes every thought it is asked about in the file `notes`."""

    name: ClassVar[str] = "faulty"
    notes: str = ""

    def verify(self, question, completion):
        opened(self.notes)
        note(self.notes, f"{completion.thought}")
        return act(completion.thought)


@dataclass(frozen=True)
class FaultyBatch(Faulty):
    name: ClassVar[str] = "faulty_batch"

    def verify_batch(self, pairs):
        return [self.verify(*pair) for pair in pairs]


@dataclass(frozen=True)
class FaultyRemote(Faulty):
    """The same, awaited; `wait` never comes back, but lets others go on meanwhile."""

    name: ClassVar[str] = "faulty_remote"

    async def averify_batch(self, pairs):
        verdicts = []
        for question, completion in pairs:
            if completion.thought == "wait":
                await asyncio.sleep(3600)
            if completion.thought == "cancel":
                raise asyncio.CancelledError
            await asyncio.sleep(0)
            verdicts.append(self.verify(question, completion))
        return verdicts


@dataclass(frozen=True)
class Meeting(Verifier):
    """Comes back only when `other` has started too: alone, or one after the other, it never does."""

    name: ClassVar[str] = "meeting"
    folder: str = ""
    me: str = ""
    other: str = ""

    def verify(self, question, completion):
        raise NotImplementedError

    async def averify_batch(self, pairs):
        (Path(self.folder) / self.me).touch()
        while not (Path(self.folder) / self.other).exists():
            await asyncio.sleep(0.01)
        return [Verdict(1.0, Reason.CORRECT)] * len(pairs)


@dataclass(frozen=True)
class Unsure(Verifier):
    """Hangs while it is asked whether it applies."""

    name: ClassVar[str] = "unsure"

    def applies(self, question):
        return act(question.fields["perturbation"]) is not None

    def verify(self, question, completion):
        return Verdict(1.0, Reason.CORRECT)


def note(path: str, line: str) -> None:
    if path:
        with Path(path).open("a") as out:
            out.write(line + "\n")


@cache
def opened(path: str) -> None:
    """Stands for a resource that takes long to open."""
    note(path, f"opened by {os.getpid()}")


@dataclass(frozen=True)
class Judge(RemoteVerifier):
    """Sends the thought to a service and takes its score."""

    name: ClassVar[str] = "judge"
    url: str = ""
    attempts: int = 4
    timeout: float = 5.0
    concurrency: int = 3

    async def averify_batch(self, pairs):
        options = {"attempts": self.attempts, "timeout": self.timeout, "concurrency": self.concurrency}
        async with Client(self, **options) as client:
            return await together(self._ask(client, completion) for _, completion in pairs)

    async def _ask(self, client, completion):
        reply = await client.post(self.url, {"thought": completion.thought})
        return Verdict(float(reply["score"]), Reason.BELIEF)


@dataclass(frozen=True)
class Flaky(Verifier):
    """By the count of its calls, kept in the file `notes`: the 40th hangs, the 80th gives NaN, every 100th raises."""

    name: ClassVar[str] = "flaky"
    notes: str = ""

    def verify(self, question, completion):
        note(self.notes, "asked")
        call = len(Path(self.notes).read_text().splitlines())
        return act("hang" if call == 40 else "nan" if call == 80 else "raise" if call % 100 == 0 else "")
