"""What holds for the whole test session, whatever machine it runs on. tests/conftest.py installs it.

- No test reaches the network: names and addresses that are not this machine's are refused in this process, and the
  hub's clients and pip are told to stay offline, in the processes that tests start too.
- Without RLVR_DATA the cache is an empty folder of the session's own: what an earlier session left decides nothing.
- A test that needs files which cannot be committed is marked with what it needs, and skips in one line.
- Skips stand in the summary once a reason, with how many there were.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from rlvr import models, plugins
from rlvr.knowledge import FILES
from rlvr.source import File, Source

LOCAL = ("localhost", "", None, socket.gethostname())


class NetworkRefused(OSError):
    """A test asked for an address that is not this machine's."""


def is_local(host: Any) -> bool:
    """Whether a host, as a socket takes it, is this machine: its names, or a loopback or unspecified address."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in LOCAL:
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def block_network(patch: pytest.MonkeyPatch) -> None:
    """Sockets of this process connect to this machine alone; the hub's clients and pip are told to stay offline."""
    look_up, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex

    def refuse(host: Any) -> NoReturn:
        raise NetworkRefused(f"a test asked for {host!r}: tests reach this machine alone")

    def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
        return look_up(host, *rest, **named) if is_local(host) else refuse(host)

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
                refuse(address[0])
            return method(self, address)

        return call

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    patch.setattr(socket.socket, "connect", guarded(connect))
    patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "PIP_NO_INDEX"):
        patch.setenv(name, "1")


def perturbqa_files() -> Iterable[File]:
    """Of the two lines that can be had."""
    files = plugins.load("data", "perturbqa", Source).files()
    return [file for file in files if "k562" in file.name or "rpe1" in file.name]


def meet(mark: str) -> None:
    """Skip a test with this mark where it cannot run."""
    if mark == "perturbqa":
        need([*perturbqa_files(), *FILES])
    elif mark == "upstream":
        need(FILES)
    elif mark == "smollm2" and not models.is_pulled("smollm2-135m"):
        pytest.skip("SmolLM2 is not pulled: rlvr models pull smollm2-135m")


def need(files: Iterable[File]) -> None:
    """Skip the test that asks, in one line, unless these files are here."""
    absent = sorted({file.name.partition("/")[0] for file in files if not file.here()})
    if absent and not os.environ.get("RLVR_DATA"):
        pytest.skip("RLVR_DATA is not set: files too large or not free enough to commit")
    if absent:
        pytest.skip(f"not under RLVR_DATA: {', '.join(absent)}")


def summary(reporter: Any) -> None:
    """The skips, a line a reason."""
    reasons: Counter[str] = Counter()
    for report in reporter.stats.get("skipped", []):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ")] += 1
    if reasons:
        reporter.section("skipped")
        for reason, count in reasons.most_common():
            reporter.write_line(f"{count:4} {reason}")


def empty_cache(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """RLVR_CACHE is `folder`, in which only the models that were pulled stand, unless RLVR_DATA is set."""
    if os.environ.get("RLVR_DATA"):
        return
    pulled = models.folder_of("smollm2-135m").parent
    if pulled.is_dir():
        (folder / pulled.name).symlink_to(pulled.resolve())
    patch.setenv("RLVR_CACHE", str(folder))
