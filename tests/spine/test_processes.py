"""A process that ends with the one that started it.

pytest tests/spine/test_processes.py
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from rlvr import processes
sys.platform = {platform!r}
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), os._exit(0)))
processes.end_with_parent(signal.SIGTERM, {parent})
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {child!r}]).wait()
"""


def child(platform: str, parent: int | None) -> str:
    return CHILD.format(root=str(Path(__file__).parents[2]), platform=platform, parent=parent)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_it_gets_the_signal_once_its_parent_is_killed(platform: str) -> None:
    if platform == "linux" and sys.platform != "linux":
        pytest.skip("the kernel sends the signal on Linux alone")
    code = PARENT.format(child=child(platform, None))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.send_signal(signal.SIGKILL)
        assert parent.stdout.readline() == "saved\n"


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_it_gets_the_signal_where_its_parent_had_gone_before(platform: str) -> None:
    if platform == "linux" and sys.platform != "linux":
        pytest.skip("the kernel sends the signal on Linux alone")
    done = subprocess.run([sys.executable, "-c", child(platform, 2**22)], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "saved"
