"""Verifiers in processes of their own, which can be killed: one that hangs or dies costs a row, not the run.

    columns = Worker({"label": Label()}, deadline=30.0).ask(pairs)      # as rlvr.rewards.asking.InProcess does

The verifiers that rlvr ships share one process; every other one has its own, so that what it does there (to a class, to
the pipe) changes no verdict but its own, and at most `memory` GiB of it. All are asked at the same time. What comes out
of such a process is read as data and checked again.

The verifiers are sent once and asked as in `rlvr.rewards.asking`; each verdict comes back as it is given, so that what
is in flight is known. When a batch is not done within the deadline, or the process dies, what was in flight becomes a
failure that says so, with the stack of the process, and a new process goes on with the rest. Where more than one pair
of a verifier was in flight (`verify_batch`, `averify_batch`), they are asked again pair by pair, to find the one. At
most `MOST_LOST` processes are lost per batch, so it ends within as many deadlines, and the time to start them.

A process is started afresh (`rlvr.rewards.serving`): a fork would inherit the locks of torch's threads, and
multiprocessing's spawn would import train.py again, and so torch. It ends with its parent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from rlvr.rewards.asking import AT_ONCE, MOST_TEXT, Failure, Said, Scored, verdict_of
from rlvr.rewards.trust import is_shipped
from rlvr.types import Error, Evidence, Reason, Verdict
from rlvr.verifier import Pair, Verifier

log = logging.getLogger(__name__)

MOST_LOST = 5  # processes that may be lost on one batch
START = 300.0  # seconds that importing the verifiers may take
MEMORY = 8.0  # GiB of address space: torch alone takes two
MOST_BYTES = 1 << 30  # of a message
FORGED = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)  # what reading a message raises where it is none


class Worker:
    """Asks verifiers in processes that are killed when a batch takes longer than `deadline` seconds.

    memory: GiB that the process of a verifier which rlvr does not ship may take up, where the system holds it to that.
    """

    def __init__(self, verifiers: Mapping[str, Verifier], deadline: float, memory: float = MEMORY) -> None:
        for what, value, unit in (("deadline", deadline, "seconds"), ("memory", memory, "GiB")):
            if not (math.isfinite(value) and value > 0):
                hint = "; leave it out to have none" if what == "deadline" else ""
                raise Error(f"{what} {value} must be a number of {unit} above 0{hint}")
        shipped = {name: verifier for name, verifier in verifiers.items() if is_shipped(verifier)}
        others = [{name: verifier} for name, verifier in verifiers.items() if name not in shipped]
        self._names = list(verifiers)
        self._rooms = [_Room(shipped, deadline, None)] if shipped else []
        self._rooms += [_Room(other, deadline, memory) for other in others]

    def ask(self, pairs: Sequence[Pair]) -> dict[str, list[Said]]:
        """verifier -> what it says of each pair, in order. Never raises for a fault of a verifier's, but an Error
        where the verifiers cannot be loaded at all."""
        for room in self._rooms:
            room.begin(len(pairs))
        try:
            while busy := [room for room in self._rooms if room.open()]:
                for room in busy:
                    room.start()  # by this thread: on Linux a process ends with the thread that started it
                _together(busy, pairs)
        except BaseException:  # an interrupted process would answer the next batch with the rest of this one
            self.close()
            raise
        said = {name: column for room in self._rooms for name, column in room.batch.said.items()}
        return {name: said[name] for name in self._names}

    def close(self) -> None:
        """End the processes; the next batch starts others."""
        for room in self._rooms:
            room.close()


def _together(rooms: Sequence[_Room], pairs: Sequence[Pair]) -> None:
    """One round in every room, at the same time."""
    if len(rooms) == 1:
        rooms[0].work(pairs)
        return
    with ThreadPoolExecutor(len(rooms)) as pool:
        try:
            for _ in pool.map(lambda room: room.work(pairs), rooms):
                pass
        except BaseException:
            for room in rooms:  # a thread that waits for a process ends with it
                room.kill()
            raise


class _Room:
    """The verifiers that share a process, and what they have said of the batch."""

    def __init__(self, verifiers: Mapping[str, Verifier], deadline: float, memory: float | None) -> None:
        self._names, self._deadline, self._memory = list(verifiers), deadline, memory
        self._pickled = _pickled(verifiers)
        self._child: _Child | None = None
        self.batch = _Batch(self._names, 0, None)

    def begin(self, size: int) -> None:
        self.batch = _Batch(self._names, size, self._memory)

    def open(self) -> bool:
        """Whether there is anything left to ask."""
        if self.batch.lost == MOST_LOST:
            self.batch.give_up()
        return bool(self.batch.open())

    def start(self) -> None:
        self._child = self._child or _Child(self._pickled, self._deadline, self._memory)

    def work(self, pairs: Sequence[Pair]) -> None:
        """Ask for what is missing, until it is there or the process is lost."""
        assert self._child is not None
        why = self._child.work(self.batch, (pairs, self.batch.open(), self.batch.singly), self._deadline)
        if why:
            self.batch.lose(why, self._child.stack())
            self.close()

    def kill(self) -> None:
        if self._child:
            self._child.kill()

    def close(self) -> None:
        if self._child:
            self._child.close()
            self._child = None


def _pickled(verifiers: Mapping[str, Verifier]) -> bytes:
    for name, verifier in verifiers.items():
        try:
            pickle.dumps(verifier)
        except Exception as error:
            raise Error(
                f"verifier {name!r} cannot be sent to its worker process: {error}; define its class in a module, "
                "keep to plain options, or set no deadline"
            ) from error
    return pickle.dumps(dict(verifiers))


class _Batch:
    """What has been said of a batch so far, and what is in flight. memory: of a process that is not trusted."""

    def __init__(self, names: Sequence[str], size: int, memory: float | None) -> None:
        self.said: dict[str, Any] = {name: [None] * size for name in names}
        self.singly: dict[str, int] = {}
        self.lost = 0
        self._memory = memory
        self._flying: list[tuple[str, list[int]]] = []

    def open(self) -> dict[str, list[int]]:
        missing = {name: [i for i, said in enumerate(column) if said is None] for name, column in self.said.items()}
        return {name: indices for name, indices in missing.items() if indices}

    def note(self, message: Any) -> bool:
        """Enter what a process sends; whether it is done. ValueError and its like where that is no message: a verifier
        may write into the pipe."""
        for name, index, fields in message["said"]:
            self.said[name][self._index(name, index)] = self._read(fields)
        if message["begun"]:
            name, indices = message["begun"]
            self._flying.append((name, [self._index(name, index) for index in indices]))
        if message["done"] and self.open():
            raise ValueError("done, with verdicts missing")
        return bool(message["done"])

    def _index(self, name: str, index: Any) -> int:
        if type(index) is not int or not 0 <= index < len(self.said[name]):
            raise ValueError(f"no pair {index!r:.20}")
        return index

    def _read(self, fields: Any) -> Said:
        if self._memory is None:
            return Scored(*fields) if len(fields) == 3 else Failure(*fields)
        if len(fields) == 3:
            score, reason, evidence = fields
            return verdict_of(Verdict(score, Reason(reason), tuple(Evidence(**item) for item in json.loads(evidence))))
        summary, text = (str(field)[:MOST_TEXT] for field in fields)
        if summary.startswith("MemoryError"):
            summary += f"; its process may take {self._memory:g} GiB (`memory` in the recipe)"
        return Failure(summary, text)

    def lose(self, why: str, stack: str) -> None:
        """Whom to blame for a lost process: of each verifier the one pair in flight; of several, none yet."""
        self.lost, self._why = self.lost + 1, why
        log.warning("verifiers: %s (%d of at most %d on this batch)", why, self.lost, MOST_LOST)
        for name in {name: None for name, _ in self._flying}:
            column = self.said[name]
            flying = {i for other, indices in self._flying if other == name for i in indices if column[i] is None}
            if len(flying) == 1:
                column[flying.pop()] = Failure(f"{why}{_place(stack)}", f"{why}\n{stack}")
            elif flying:
                self.singly[name] = 1 if name in self.singly else AT_ONCE
        self._flying.clear()

    def give_up(self) -> None:
        why = f"not asked: {self.lost} worker processes were lost on this batch; the last: {self._why}"
        for name, indices in self.open().items():
            for index in indices:
                self.said[name][index] = Failure(why, why)


class _Child:
    """The parent's side of a process that runs `rlvr.rewards.serving`."""

    def __init__(self, verifiers: bytes, patience: float, memory: float | None) -> None:
        ours, theirs = socket.socketpair()
        # Nothing may wait for ever on a process that neither reads nor writes, as one that is stopped.
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", math.ceil(patience), 0))
        self._trace = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        handles = (theirs.fileno(), self._trace.fileno())
        most = None if memory is None else int(memory * (1 << 30))
        start = f"from rlvr.rewards.serving import serve; serve{(*handles, os.getpid(), most)}"
        code = f"import sys; sys.path[:] = {sys.path!r}; {start}"
        self._process = subprocess.Popen(
            # In a session of its own: Ctrl-C is for the parent, and what it starts itself dies with it.
            [sys.executable, "-P", "-c", code],
            pass_fds=handles,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._pipe = Connection(ours.detach())
        self._arrival = select.poll()
        self._arrival.register(self._pipe.fileno(), select.POLLIN)
        self.close = weakref.finalize(self, _end, self._process, self._pipe, self._trace)
        self._verifiers: bytes | None = verifiers  # to be sent

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _introduce(self, verifiers: bytes) -> None:
        try:
            self._pipe.send_bytes(verifiers)
            answer = self._receive(time.monotonic() + START)
            problem = f"nothing came within {START:g} s" if answer is None else answer["problem"]
        except (EOFError, OSError):
            problem = self._death()
        except FORGED:
            problem = "its process sent what is no message"
        if problem:
            self.close()
            raise Error(f"the verifiers cannot be loaded in a worker process: {problem}; mend that, or set no deadline")

    def work(self, batch: _Batch, job: tuple[Any, ...], deadline: float) -> str | None:
        """Have the job done. Returns why the process is lost, None if it is not."""
        if self._verifiers is not None:
            self._introduce(self._verifiers)
            self._verifiers = None
        ends = time.monotonic() + deadline
        try:
            self._pipe.send_bytes(pickle.dumps(job))
            while True:
                message = self._receive(ends)
                if message is None:
                    return f"no verdict within {deadline:g} s, its process was killed"
                if batch.note(message):
                    return None
        except (EOFError, OSError):
            return self._death()
        except FORGED:
            return "its process sent what is no verdict"

    def _receive(self, ends: float) -> dict[str, Any] | None:
        """The next message; None where none comes in time."""
        if not self._arrival.poll(max(0.0, ends - time.monotonic()) * 1000):
            return None
        message: dict[str, Any] = json.loads(self._pipe.recv_bytes(MOST_BYTES))  # never pickle: it ran a plugin's code
        return message

    def _death(self) -> str:
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "its process no longer answers"
        return f"its process died ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"

    def stack(self) -> str:
        """Where the process is, or was when a signal ended it; empty if it does not say."""
        handle = self._trace.fileno()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)
            waited = time.monotonic() + 0.5
            while not os.fstat(handle).st_size and time.monotonic() < waited:
                time.sleep(0.01)
            time.sleep(0.05)  # the rest of the lines
        return os.pread(handle, MOST_TEXT, 0).decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes], pipe: Connection, trace: Any) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    pipe.close()
    trace.close()


def _place(stack: str) -> str:
    """' (file.py:12)' of the innermost frame that faulthandler has written."""
    frame = next((line for line in stack.splitlines() if line.startswith('  File "')), "")
    path, _, rest = frame.removeprefix('  File "').partition('", line ')
    return f" ({path.rpartition('/')[2]}:{rest.partition(' ')[0]})" if rest else ""
