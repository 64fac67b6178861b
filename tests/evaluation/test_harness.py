"""The tasks inside inspect_ai and PrimeIntellect's verifiers: the real packages, and the same verdicts as here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from rlvr.completions import reference
from rlvr.evaluation.harness import Asked
from rlvr.evaluation.harness.package import package
from rlvr.questions.rationales import thought
from rlvr.types import Error

pytestmark = pytest.mark.slow  # other people's harnesses

ROOT = Path(__file__).resolve().parents[2]
NEEDED = "not installed here: pip install 'rlvr[harness]'"


@pytest.fixture(scope="module")
def asked() -> Asked:
    return Asked.open("quickstart", ["evaluation.questions=6"])


def completions(asked: Asked) -> list[str]:
    """Right, wrong, unparsed, and cut short, in turn."""
    found = []
    for place, question in enumerate(asked.questions):
        said = thought(question, asked.by_task[question.task])
        wrong = next(w for w in asked.by_task[question.task].slot_words if w != asked.target(question))
        found.append([reference(said, asked.target(question)), reference(said, wrong), "higher, I think"][place % 3])
    return found


def test_the_test_split_and_what_no_recipe_has_are_refused() -> None:
    with pytest.raises(Error, match="--final"):
        Asked.open("quickstart", split="test")
    with pytest.raises(Error, match="unknown key"):
        Asked.open("quickstart", ["evaluation.question=6"])


def test_inspect_ai_reports_the_verdicts_of_the_reward_layer(asked: Asked, tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai", reason=NEEDED)
    from inspect_ai import eval as run
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    from rlvr.evaluation.harness import inspect as task

    texts = completions(asked)
    outputs = [ModelOutput.from_content("mockllm/model", text) for text in texts]
    outputs[-1].choices[0].stop_reason = "max_tokens"
    for output in outputs:  # else its mock counts tokens with a table that it would download
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    model = get_model("mockllm/model", custom_outputs=outputs)
    made = task.rlvr("quickstart", "evaluation.questions=6")
    log = run(made, model=model, log_dir=str(tmp_path), display="none", max_samples=1)[0]
    assert log.status == "success" and log.samples is not None and len(log.samples) == 6
    by_id = {question.id: question for question in asked.questions}
    for sample in log.samples:
        question = by_id[str(sample.id)]
        row = asked.layer.score([question], [sample.output.completion], [sample.output.stop_reason == "stop"])[0]
        assert sample.scores is not None
        value: Any = sample.scores["verdicts"].value
        for name in asked.layer.verifiers:
            assert (value[name] == row[name]) if row[name] is not None else isnan(value[name])
        assert value["reward"] == pytest.approx(row["reward"])
        assert value["correct"] == float(row["answer"] == question.truth["answer"])
    found = {score.name: score.metrics["mean"].value for score in log.results.scores}
    assert found["parsed"] == pytest.approx(4 / 6) and found["correct"] == pytest.approx(2 / 6)


def test_inspect_ai_finds_the_task_by_its_entry_point() -> None:
    pytest.importorskip("inspect_ai", reason=NEEDED)
    (entry,) = [entry for entry in entry_points(group="inspect_ai") if entry.name == "rlvr"]
    assert entry.load().rlvr is not None


class Chat(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that splits the thought off, as reasoning parsers do."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        message = {"role": "assistant", "content": "<answer>higher</answer>", "reasoning_content": "PPIE unchanged."}
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        }
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        return


@pytest.mark.parametrize("model", ["openai/gpt-4o", "openai-api/local/any"])
def test_inspect_ais_own_providers_work_beside_the_other_harness(
    model: str, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`inspect eval rlvr/rlvr --model openai/...`: its provider refuses an `openai` older than it wants."""
    pytest.importorskip("inspect_ai", reason=NEEDED)
    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{served.server_address[1]}/v1"
        found = {"OPENAI_API_KEY": "none", "LOCAL_API_KEY": "none", "LOCAL_BASE_URL": url, "OPENAI_BASE_URL": url}
        found |= {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "HOME": str(tmp_path)}
        command = [str(Path(sys.executable).parent / "inspect"), "eval", "rlvr/rlvr", "--model", model]
        options = [
            "-T",
            "overrides=evaluation.questions=3",
            "--log-dir",
            str(tmp_path / "logs"),
            "--log-format",
            "json",
        ]
        if model.startswith("openai/"):
            options += ["-M", "responses_api=false"]
        done = subprocess.run(
            [*command, *options, "--display", "plain"],
            env={**os.environ, **found},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        served.shutdown()
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    (file,) = (tmp_path / "logs").glob("*.json")
    log = json.loads(file.read_text())
    assert log["status"] == "success", log.get("error")
    values = {sample["id"]: sample["scores"]["verdicts"]["value"] for sample in log["samples"]}
    assert len(values) == 3
    by_id = {question.id: question for question in asked.questions}
    text = "<think>PPIE unchanged.</think>\n<answer>higher</answer>"
    for id, value in values.items():
        row = asked.layer.score([by_id[id]], [text])[0]
        assert value["parsed"] == 1.0 and value["label"] == row["label"] and value["mention"] == row["mention"]


class Replies(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that streams one completion, always the same."""

    text = "<think>PPIH on IL-2: like PPIE unchanged.</think>\n<answer>higher</answer>"
    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).asked.append(body)
        common = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        parts: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": self.text}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
        ]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for part in parts:
            self.wfile.write(f"data: {json.dumps({**common, **part})}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    Replies.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Replies) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}/v1"
        served.shutdown()


def test_an_environment_package_runs_in_primes_own_evaluation(server: str, tmp_path: Path) -> None:
    pytest.importorskip("verifiers.v1", reason=NEEDED)
    folder = package("quickstart", ["evaluation.questions=3"], tmp_path / "rlvr-quick")
    programs = Path(sys.executable).parent
    command = [str(programs / "vf-eval"), "rlvr-quick", "-m", "fake", "-n", "2", "-r", "1"]
    options = ["--client.base-url", server, "--client.api-key-var", "KEY", "--output-dir", str(tmp_path / "out")]
    agent = ["--env.agent.harness.id", "null", "--env.agent.runtime.type", "subprocess", "--no-push"]
    split = ["--env.taskset.split", "validation"]
    found = {"PYTHONPATH": f"{ROOT}:{folder}", "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, *options, *agent, *split],
        env={**os.environ, **found, "KEY": "none"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    (file,) = (tmp_path / "out").glob("*/traces.jsonl")
    episodes = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(episodes) == 2, done.stderr[-2000:]
    asked = Asked.open("quickstart", ["evaluation.questions=3"])
    by_id = {question.id: question for question in asked.questions}
    for episode in episodes:
        (trace,) = episode["traces"]
        question = by_id[trace["task"]["data"]["id"]]
        row = asked.layer.score([question], [Replies.text])[0]
        assert trace["rewards"]["reward"]["score"] == pytest.approx(row["reward"])
        assert trace["metrics"]["parsed"] == 1.0 and trace["metrics"]["label"] == row["label"]
    shown = [turn["content"] for body in Replies.asked for turn in body["messages"]]
    assert {turn["content"] for q in asked.questions for turn in asked.messages(q)} >= set(shown)


def test_a_package_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = package("quickstart", [], tmp_path / "rlvr-quick")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
        "__init__.py",
        "pyproject.toml",
        "recipe.yaml",
    ]
    with pytest.raises(Error, match="exists"):
        package("quickstart", [], folder)
    for name in ("Quick", "quick; import os", "-quick", "qu_ick", ".."):
        with pytest.raises(Error):
            package("quickstart", [], tmp_path / name)
    with pytest.raises(Error):
        package("quickstrat", [], tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["rlvr-quick"]
