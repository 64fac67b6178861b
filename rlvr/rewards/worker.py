"""Verifiers in a process of their own, which can be killed: one that hangs or dies costs a row, not the run.

    columns = Worker({"label": Label()}, deadline=30.0).ask(pairs)      # as rlvr.rewards.asking.InProcess does

The verifiers are sent once and asked as in `rlvr.rewards.asking`; each verdict comes back as it is given, so that what
is in flight is known. When a batch is not done within the deadline, or the process dies, what was in flight becomes a
failure that says so, with the stack of the process, and a new process goes on with the rest. Where more than one pair
of a verifier was in flight (`verify_batch`, `averify_batch`), they are asked again pair by pair, to find the one. At
most `MOST_LOST` processes are lost per batch, so it ends within as many deadlines, and the time to start them.

The process is started afresh: a fork would inherit the locks of torch's threads, and multiprocessing's spawn would
import train.py again, and so torch. It ends with its parent.
"""

from __future__ import annotations

import contextlib
import faulthandler
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
from multiprocessing.connection import Connection
from typing import Any

from rlvr.processes import end_with_parent
from rlvr.rewards.asking import AT_ONCE, MOST_TEXT, Failure, Said, Scored, ask, waits
from rlvr.types import Error
from rlvr.verifier import Pair, Verifier

log = logging.getLogger(__name__)

MOST_LOST = 5  # processes that may be lost on one batch
START = 300.0  # seconds that importing the verifiers may take


class Worker:
    """Asks verifiers in a process that is killed when a batch takes longer than `deadline` seconds."""

    def __init__(self, verifiers: Mapping[str, Verifier], deadline: float) -> None:
        if not (math.isfinite(deadline) and deadline > 0):
            raise Error(f"deadline {deadline} must be a number of seconds above 0; leave it out to have none")
        self._names, self._deadline = list(verifiers), deadline
        self._pickled = _pickled(verifiers)
        self._child: _Child | None = None

    def ask(self, pairs: Sequence[Pair]) -> dict[str, list[Said]]:
        """verifier -> what it says of each pair, in order. Never raises for a fault of a verifier's, but an Error
        where the verifiers cannot be loaded at all."""
        batch = _Batch(self._names, len(pairs))
        try:
            while todo := batch.open():
                if batch.lost == MOST_LOST:
                    batch.give_up()
                    break
                self._child = self._child or _Child(self._pickled, self._deadline)
                why = self._child.work(batch, (pairs, todo, batch.singly), self._deadline)
                if why:
                    batch.lose(why, self._child.stack())
                    self.close()
        except BaseException:  # an interrupted process would answer the next batch with the rest of this one
            self.close()
            raise
        return batch.said

    def close(self) -> None:
        """End the process; the next batch starts another."""
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
    """What has been said of a batch so far, and what is in flight."""

    def __init__(self, names: Sequence[str], size: int) -> None:
        self.said: dict[str, Any] = {name: [None] * size for name in names}
        self.singly: dict[str, int] = {}
        self.lost = 0
        self._flying: list[tuple[str, list[int]]] = []

    def open(self) -> dict[str, list[int]]:
        missing = {name: [i for i, said in enumerate(column) if said is None] for name, column in self.said.items()}
        return {name: indices for name, indices in missing.items() if indices}

    def note(self, message: Mapping[str, Any]) -> None:
        for name, index, fields in message["said"]:
            self.said[name][index] = Scored(*fields) if len(fields) == 3 else Failure(*fields)
        if message["begun"]:
            self._flying.append(message["begun"])

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
    """The parent's side of a process that runs `serve`."""

    def __init__(self, verifiers: bytes, patience: float) -> None:
        ours, theirs = socket.socketpair()
        # Nothing may wait for ever on a process that neither reads nor writes, as one that is stopped.
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", math.ceil(patience), 0))
        self._trace = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        handles = (theirs.fileno(), self._trace.fileno())
        start = f"from rlvr.rewards.worker import serve; serve{(*handles, os.getpid())}"
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
        try:
            self._pipe.send_bytes(verifiers)
            answer = self._receive(time.monotonic() + START)
            problem = f"nothing came within {START:g} s" if answer is None else answer["problem"]
        except (EOFError, OSError):
            problem = self._death()
        if problem:
            self.close()
            raise Error(f"the verifiers cannot be loaded in a worker process: {problem}; mend that, or set no deadline")

    def work(self, batch: _Batch, job: tuple[Any, ...], deadline: float) -> str | None:
        """Have the job done. Returns why the process is lost, None if it is not."""
        ends = time.monotonic() + deadline
        try:
            self._pipe.send_bytes(pickle.dumps(job))
            while True:
                message = self._receive(ends)
                if message is None:
                    return f"no verdict within {deadline:g} s, its process was killed"
                batch.note(message)
                if message["done"]:
                    return None
        except (EOFError, OSError):
            return self._death()

    def _receive(self, ends: float) -> dict[str, Any] | None:
        """The next message; None where none comes in time."""
        if not self._arrival.poll(max(0.0, ends - time.monotonic()) * 1000):
            return None
        message: dict[str, Any] = json.loads(self._pipe.recv_bytes())  # never pickle: it ran a plugin's code
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


def serve(pipe: int, trace: int, parent: int) -> None:
    """The worker process: takes the verifiers, then jobs, until the pipe closes."""
    # Even if it is killed; where the thread that started this process ends early, the next batch starts another.
    end_with_parent(signal.SIGKILL, parent)
    for handle in (pipe, trace):
        os.set_inheritable(handle, False)
    faulthandler.enable(trace, all_threads=False)
    faulthandler.register(signal.SIGUSR1, trace, all_threads=False)
    connection = Connection(pipe)
    said: list[Any] = []

    def send(begun: tuple[str, Sequence[int]] | None = None, done: bool = False) -> None:
        connection.send_bytes(json.dumps({"said": said, "begun": begun, "done": done}).encode())
        said.clear()

    # What was said goes out before anything new is started, and so is never lost.
    def begin(name: str, indices: Sequence[int]) -> None:
        send((name, list(indices)))

    def say(name: str, index: int, what: Said) -> None:
        said.append((name, index, what))
        if waits(verifiers[name]):  # others are in flight
            send()

    try:
        verifiers = pickle.loads(connection.recv_bytes())
        problem = None
    except Exception as error:
        problem = Failure.of(error).summary
    connection.send_bytes(json.dumps({"problem": problem}).encode())
    with contextlib.suppress(EOFError):
        while not problem:
            pairs, todo, singly = pickle.loads(connection.recv_bytes())
            ask(verifiers, pairs, todo, singly, begin, say)
            send(done=True)
