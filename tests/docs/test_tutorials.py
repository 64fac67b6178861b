"""Every tutorial works: its blocks run from top to bottom in a copy of the checkout, with a tiny model and server.

    pytest tests/docs/test_tutorials.py

A block with a title is a file, which is written; bash and Python run; what stands below `<!-- not run: WHY -->` does
not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import tiny

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(
    r'(?:^<!-- not run: (?P<why>[^\n]+) -->\n)?^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = {
    "first-run": ["takes 17 minutes and fetches a model"],
    "gpus": ["installs packages", "reads a model from a hub", "needs a GPU"],
    "own-perturb-seq": ["the first-run tutorial trains"],
    "read-the-report": ["needs two runs"],
    "served-model": ["needs a GPU"],
}


class Handler(BaseHTTPRequestHandler):
    """A server of one answer, which neither tokenizes nor gives probabilities."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"content": "<think>so</think>\n<answer>no effect</answer>"}
        reply = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 6}}
        known = self.path == "/v1/chat/completions"
        self.send_response(200 if known else 404)
        body = json.dumps(reply if known else {}).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}/v1"
    running.shutdown()
    running.server_close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny.make(tmp_path_factory.mktemp("tiny"), tiny.planted(), steps=4)
    return folder


def checkout(folder: Path) -> None:
    """What a reader's checkout holds, apart from this one, as tutorials write into it."""
    for name in ("rlvr", "verifiers", "data", "prompts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    for name in ("train.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)


@pytest.mark.timeout(1200)  # the first run trains and measures three times
@pytest.mark.slow  # starts the command some twenty times, and trains
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_as_it_is_written(tutorial: Path, tmp_path: Path, model: Path, server: str) -> None:
    checkout(tmp_path)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path),
        "MODEL": str(model),
        "SERVER": server,
        "SERVED": "one-answer",
        "NO_PROXY": "127.0.0.1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    for block in BLOCK.finditer(tutorial.read_text(encoding="utf-8")):
        if block["why"]:
            continue
        if block["title"]:
            (tmp_path / block["title"]).write_text(block["code"], encoding="utf-8")
            continue
        start = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[block["language"]]
        command = [*start, block["code"]]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block['code']}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def test_what_is_not_run_is_listed() -> None:
    left_out = {
        path.stem: [block["why"] for block in BLOCK.finditer(path.read_text(encoding="utf-8")) if block["why"]]
        for path in TUTORIALS
    }
    assert {name: reasons for name, reasons in left_out.items() if reasons} == NOT_RUN


def test_every_block_is_read() -> None:
    for path in TUTORIALS:
        text = path.read_text(encoding="utf-8")
        assert len(list(BLOCK.finditer(text))) * 2 == len(re.findall(r"^```", text, re.MULTILINE)), path.name
