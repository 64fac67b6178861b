"""Models behind a server on this machine that is busy, broken, slow, strange, or says nothing of probabilities."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rlvr import remote
from rlvr.policy import Broken, Server, ServerSampler
from rlvr.types import Error

ANSWERS = {"up": "rises", "down": "falls"}
PROMPTS = [[{"role": "user", "content": f"question {i}"}] for i in range(6)]
TEXT = "<think>so</think>\n<answer>up</answer>"
PIECES = ["<think>", "so", "</think>", "\n<answer>", "up", "</answer>", ""]
IDS = {"</think>\n<answer>": [5, 6], "</think>\n<answer>up": [5, 6, 7], "</think>\n<answer>down": [5, 6, 8]}


class Fake(ThreadingHTTPServer):
    """`mode` says how it misbehaves; without one it is a vLLM of few tokens. `replies` are sent before all else."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode, self.key = "", ""
        self.replies: list[tuple[int, str]] = []
        self.counts: Counter[str] = Counter()
        self.asked: list[dict[str, Any]] = []
        self.lock, self.release = threading.Lock(), threading.Event()
        self.now = self.most = 0

    def handle_error(self, *_: Any) -> None:
        """Whoever gave up has closed the connection."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_POST(self) -> None:
        fake, request = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with fake.lock:
            fake.counts[self.path] += 1
            fake.asked.append(request)
            fake.now += 1
            fake.most = max(fake.most, fake.now)
            scripted = fake.replies.pop(0) if fake.replies and self.path != "/tokenize" else None
        if fake.mode == "hang" and self.path != "/tokenize":
            fake.release.wait(30)
        if fake.key and self.headers["Authorization"] != f"Bearer {fake.key}":
            scripted = (401, "who are you?")
        status, body = scripted or self.reply(request)
        with fake.lock:
            fake.now -= 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def reply(self, request: dict[str, Any]) -> tuple[int, str]:
        mode = self.server.mode
        if self.path == "/tokenize":
            if mode in ("hosted", "hosted cut"):
                return 404, "{}"
            return 200, json.dumps({"tokens": IDS[request["prompt"]] if "prompt" in request else [1, 2, 3]})
        if self.path == "/v1/chat/completions":
            ended = "length" if mode == "hosted cut" else "stop"
            choice = {"message": {"content": TEXT}, "finish_reason": ended}
            return 200, json.dumps({"choices": [choice], "usage": {"completion_tokens": 6}})
        if mode in ("null", "[]", "{}", "<html>", '{"choices": [{}]}'):
            return 200, mode
        if "allowed_token_ids" in request or "logprob_token_ids" in request:
            top = {"token_id:7": -0.1, "token_id:8": -2.1, "token_id:9": -9.0}
            odd: dict[str, Any] = {
                "none": None,
                "other names": {"up": -0.1, "down": -2.1},
                "one missing": {"token_id:7": -0.1},
                "no numbers": {"token_id:7": "NaN", "token_id:8": None},
            }
            logprobs = {"top_logprobs": [odd.get(mode, top)]} if mode != "none" else None
            return 200, json.dumps({"choices": [{"text": "up", "logprobs": logprobs, "finish_reason": "length"}]})
        choice = {"text": TEXT, "finish_reason": "stop", "token_ids": list(range(10, 17))}
        choice |= {"logprobs": {"tokens": PIECES}} if mode != "no ids" else {"token_ids": None}
        return 200, json.dumps({"choices": [choice], "usage": {"completion_tokens": 7}})

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "_backoff", lambda state: 0.01)
    server = Fake()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def ask(server: Server, **options: Any) -> list[Any]:
    return ServerSampler(server).answer(PROMPTS, ANSWERS, 20, lambda n: None, **options)


def test_a_server_that_tokenizes_is_read_at_the_slot_after_the_thought(fake: Fake) -> None:
    answered = ask(Server(fake.url, "m"))
    assert {(a.text, a.finished, a.tokens) for a in answered} == {(TEXT, True, 7)}
    assert answered[0].probabilities == pytest.approx({"rises": 0.880797, "falls": 0.119203}, abs=1e-6)
    at_slot = next(request for request in fake.asked if "logprob_token_ids" in request)
    assert at_slot["prompt"] == [1, 2, 3, 10, 11, 5, 6]  # prompt, thought up to its closing tag, slot
    assert at_slot["logprob_token_ids"] == [7, 8]
    written = next(request for request in fake.asked if request.get("max_tokens") == 20)
    assert written["temperature"] == 0 and "seed" not in written and written["repetition_penalty"] == 1


def test_sampled_requests_have_their_own_seeds(fake: Fake) -> None:
    answered = ask(Server(fake.url, "m"), temperature=0.7, samples=3, seed=5)
    seeds = [request["seed"] for request in fake.asked if request.get("max_tokens") == 20]
    assert len(answered) == 18 and len(set(seeds)) == 18
    fake.asked.clear()
    ask(Server(fake.url, "m"), temperature=0.7, samples=3, seed=5)
    assert sorted(request["seed"] for request in fake.asked if request.get("max_tokens") == 20) == sorted(seeds)


@pytest.mark.parametrize("mode", ["none", "other names", "one missing", "no numbers", "no ids"])
def test_no_probability_is_made_up(fake: Fake, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    fake.mode = mode
    with caplog.at_level(logging.WARNING):
        answered = ask(Server(fake.url, "m"))
    assert [a.text for a in answered] == [TEXT] * 6
    assert [a.probabilities for a in answered] == [{}] * 6
    assert [record.message.count("answers only") for record in caplog.records] == [1]  # said once


def test_a_hosted_model_gives_answers_only(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    fake.mode = "hosted"
    with caplog.at_level(logging.WARNING):
        answered = ask(Server(fake.url, "m"))
    assert {(a.text, a.finished, a.tokens) for a in answered} == {(TEXT, True, 6)}
    assert [a.probabilities for a in answered] == [{}] * 6
    assert [record.message.count("answers only") for record in caplog.records] == [1]
    fake.mode = "hosted cut"
    assert not any(a.finished for a in ask(Server(fake.url, "m")))


def test_what_passes_is_tried_again(fake: Fake) -> None:
    fake.mode, fake.replies = "hosted", [(429, "later"), (500, "oops"), (503, "")]
    assert len(ask(Server(fake.url, "m", concurrency=2))) == 6
    assert fake.counts["/v1/chat/completions"] == 9
    assert fake.most <= 2


@pytest.mark.parametrize(
    ("replies", "told"),
    [
        ([(500, "boom")] * 99, r"answered 500 3 times: 'boom'"),
        ([(429, "")] * 99, r"answered 429 3 times"),
        ([(400, "this model's maximum context length is 9")] * 9, r'400: "this model.s maximum.*for all 6 requests'),
        (
            [(200, '{"error": {"message": "overloaded"}}')] * 99,
            r"answered 200, 3 times, and spoke of an error: .*overl",
        ),
        ([(404, "the model `m` does not exist")], r"answered 404.*does not exist"),
    ],
)
def test_what_stays_broken_is_one_line(fake: Fake, replies: list[tuple[int, str]], told: str) -> None:
    fake.mode, fake.replies = "hosted", replies
    with pytest.raises(Error, match=told) as caught:
        ask(Server(fake.url, "m", attempts=3))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["null", "[]", "{}", "<html>", '{"choices": [{}]}'])
def test_a_strange_reply_is_one_line(fake: Fake, mode: str) -> None:
    fake.mode = mode
    with pytest.raises(Error, match=r"v1/completions") as caught:
        ask(Server(fake.url, "m"))
    assert "\n" not in str(caught.value)


def test_a_server_that_hangs(fake: Fake) -> None:
    fake.mode = "hang"
    with pytest.raises(Error, match=r"no answer within 0.3 s, 2 times"):
        ask(Server(fake.url, "m", timeout=0.3, attempts=2))


def test_nobody_there() -> None:
    with pytest.raises(Error, match="cannot be reached"):
        ask(Server("http://127.0.0.1:9/v1", "m", attempts=1))


def test_the_key_is_sent_and_nowhere_told(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake.key = "sk-secret"
    with pytest.raises(Error, match=r"refuses a request without a key \(401\).*--key-env"):
        ask(Server(fake.url, "m"))
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    with caplog.at_level(logging.DEBUG), pytest.raises(Error, match=r"refuses the key in MY_KEY") as caught:
        ask(Server(fake.url, "m", "MY_KEY"))
    assert fake.counts == {"/tokenize": 2}  # at once, and no second try
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with caplog.at_level(logging.DEBUG):
        server = Server(fake.url, "m", "MY_KEY")
        assert len(ask(server)) == 6
    assert "sk-" not in caplog.text + str(caught.value) + repr(server)


def test_addresses_and_keys_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    for arguments, told in (
        (("localhost:8000", "m"), "is no address"),
        (("ftp://somewhere", "m"), "is no address"),
        (("http://me:secret@somewhere/v1", "m"), "into a variable"),
        (("http://somewhere/v1?key=secret", "m"), "into a variable"),
        (("http://somewhere/v1", "m", "NO_SUCH_KEY"), "is not set"),
    ):
        with pytest.raises(Error, match=told) as caught:
            Server(*arguments)
        assert "secret" not in str(caught.value)


def test_a_refused_request_costs_its_own_row(fake: Fake) -> None:
    fake.mode, fake.replies = "hosted", [(400, "content filter")]
    answered = ask(Server(fake.url, "m", concurrency=1))
    assert [a.text for a in answered] == ["", *[TEXT] * 5]
    assert "answered 400: 'content filter'" in answered[0].refused and not answered[0].finished
    assert {a.refused for a in answered[1:]} == {""}


def test_an_error_under_status_200_is_tried_again(fake: Fake) -> None:
    fake.mode, fake.replies = "hosted", [(200, '{"error": "busy"}'), (200, '{"error": "busy", "choices": null}')]
    assert [a.text for a in ask(Server(fake.url, "m"))] == [TEXT] * 6
    assert fake.counts["/v1/chat/completions"] == 8


def test_what_was_answered_before_a_breakdown_is_handed_over(fake: Fake) -> None:
    fake.mode = "hosted"
    body = {"choices": [{"message": {"content": TEXT}, "finish_reason": "stop"}]}
    fake.replies = [(200, json.dumps(body))] * 4 + [(500, "gone")] * 99
    with pytest.raises(Broken, match="answered 500 2 times") as caught:
        ask(Server(fake.url, "m", concurrency=1, attempts=2))
    assert [a.text for a in caught.value.answered] == [TEXT] * 4


@pytest.mark.parametrize("tokens", [[], None, "ids", [1.5]])
def test_a_tokenize_that_gives_no_ids_is_none(fake: Fake, tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Handler.reply

    def reply(self: Handler, request: dict[str, Any]) -> tuple[int, str]:
        return (200, json.dumps({"tokens": tokens})) if self.path == "/tokenize" else plain(self, request)

    monkeypatch.setattr(Handler, "reply", reply)
    assert [a.text for a in ask(Server(fake.url, "m"))] == [TEXT] * 6
    assert fake.counts["/v1/chat/completions"] == 6


def test_one_missing_probability_costs_its_own_row(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, seen = Handler.reply, iter(range(99))

    def reply(self: Handler, request: dict[str, Any]) -> tuple[int, str]:
        if "logprob_token_ids" in request and next(seen) == 2:
            return 200, json.dumps({"choices": [{"text": "up", "logprobs": None}]})
        return plain(self, request)

    monkeypatch.setattr(Handler, "reply", reply)
    answered = ask(Server(fake.url, "m", concurrency=1))
    assert sorted(bool(a.probabilities) for a in answered) == [False, *[True] * 5]


def test_hosted_models_may_want_another_length_and_no_temperature(fake: Fake) -> None:
    fake.mode = "hosted"
    ask(Server(fake.url, "m", length_key="max_completion_tokens", sends_temperature=False))
    sent = [request for request in fake.asked if "messages" in request and "max_completion_tokens" in request]
    assert len(sent) == 6
    assert not any({"max_tokens", "temperature", "top_p"} & request.keys() for request in sent)
