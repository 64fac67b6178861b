"""The process that `rlvr.rewards.worker` starts: it is sent verifiers, then pairs, and sends back what they say."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pickle
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from rlvr.processes import end_with_parent
from rlvr.rewards.asking import Failure, Said, ask, waits

try:
    import resource
except ImportError:  # no such limits on Windows
    resource = None  # type: ignore[assignment]


def serve(pipe: int, trace: int, parent: int, memory: int | None) -> None:
    """The worker process: takes the verifiers, then jobs, until the pipe closes. memory: bytes of address space
    that it may take up; None for all that there are."""
    # Even if it is killed; where the thread that started this process ends early, the next batch starts another.
    end_with_parent(signal.SIGKILL, parent)
    if memory is not None and resource is not None:  # macOS takes the limit, and does not hold to it
        with contextlib.suppress(ValueError, OSError):  # a lower one is set already
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
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
