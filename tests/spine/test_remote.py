"""Remote verifiers against a real server on this machine that is slow, busy, broken, or talks nonsense."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr import remote
from rlvr.answers import Choice
from rlvr.completions import reference
from rlvr.remote import Cache, digest, retry_after
from rlvr.rewards.layer import RewardLayer, Weighted
from rlvr.types import Completion, Error
from tests.faulty import Judge

ANSWERS = {"perturbation/direction": Choice({"up": "up", "down": "down"})}
LATER = {"Retry-After": "0"}
# thought -> the replies to its first, second, ... request, the last one for ever: status, body, headers.
SCRIPT = {
    "busy": [(429, "", LATER), (429, "", LATER), (200, '{"score": 0.5}', {})],
    "broken once": [(500, "oops", {}), (200, '{"score": 0.5}', {})],
    "broken": [(503, "oops", {})],
    "refused": [(404, "no such gene", {})],
    "garbage": [(200, "<html>not found</html>", {})],
    "not a number": [(200, '{"score": NaN}', {})],
    "too good": [(200, '{"score": 7}', {})],
    "empty": [(200, "{}", {})],
}


class Service(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.lock = Counter(), threading.Lock()
        self.now = self.most = 0
        self.release = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/judge"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self):
        thought = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["thought"]
        service = self.server
        with service.lock:
            service.now += 1
            service.most = max(service.most, service.now)
            seen = service.requests[thought]
            service.requests[thought] += 1
        if thought == "hang":
            service.release.wait(30)
        if thought.startswith("slow"):
            time.sleep(0.05)
        with service.lock:
            service.now -= 1
        if thought == "slam":
            return self.close()
        script = SCRIPT.get(thought, [(200, '{"score": 1.0}', {})])
        status, body, headers = script[min(seen, len(script) - 1)]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def close(self):
        self.close_connection = True
        self.connection.close()

    def finish(self):
        if not self.wfile.closed and self.connection.fileno() >= 0:
            super().finish()

    def log_message(self, *_):
        pass


@pytest.fixture
def service(monkeypatch, tmp_path):
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "_backoff", lambda state: 0.01 * state.attempt_number)
    server = Service()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def score(question, thoughts, judge, deadline=None):
    layer = RewardLayer({"judge": Weighted(judge)}, ANSWERS, 1.0, deadline=deadline)
    return layer.score([question] * len(thoughts), [reference(thought, "up") for thought in thoughts])


def test_what_was_asked_once_is_never_asked_again(make_question, service):
    thoughts = ["a", "b", "a", "a"]
    for deadline in (None, 60.0):  # from this process, then from a worker, which finds the replies on disk
        rows = score(make_question(), thoughts, Judge(service.url), deadline)
        assert [row["judge"] for row in rows] == [1.0] * 4
    assert service.requests == {"a": 1, "b": 1}


def test_another_version_other_options_and_another_request_are_asked_anew(make_question, service):
    class Newer(Judge):
        version = "2"

    for judge in (Judge(service.url), Judge(service.url, timeout=6.0), Newer(service.url)):
        score(make_question(), ["a"], judge)
    assert service.requests == {"a": 3}
    score(make_question(), ["b"], Judge(service.url))
    assert service.requests == {"a": 3, "b": 1}


def test_no_more_are_in_flight_than_allowed(make_question, service):
    rows = score(make_question(), [f"slow {i}" for i in range(30)], Judge(service.url, concurrency=3))
    assert [row["judge"] for row in rows] == [1.0] * 30
    assert service.most == 3  # all slots were used, and no more
    assert set(service.requests.values()) == {1}


@pytest.mark.parametrize(
    ("thought", "tries", "outcome"),
    [
        ("busy", 3, 0.5),
        ("broken once", 2, 0.5),
        ("broken", 4, "503"),
        ("slam", 4, "Error"),
        ("refused", 1, "404"),
        ("garbage", 1, "gave no JSON but '<html>not found</html>'"),
        ("not a number", 1, "NaN is no JSON"),
        ("too good", 1, "score 7.0 is outside [0, 1]"),
        ("empty", 1, "KeyError: 'score'"),
    ],
)
def test_each_request_fails_or_recovers_by_itself(make_question, service, thought, tries, outcome):
    rows = score(make_question(), ["a", thought, "b"], Judge(service.url))
    assert [rows[0]["judge"], rows[2]["judge"]] == [1.0, 1.0]
    if isinstance(outcome, float):
        assert (rows[1]["judge"], rows[1]["judge/error"]) == (outcome, None)
    else:
        assert rows[1]["judge"] is None
        assert outcome in rows[1]["judge/error"] and ", line " in rows[1]["judge/error"]
    assert service.requests == {"a": 1, "b": 1, thought: tries}


def test_a_service_that_hangs_costs_its_own_row(make_question, service):
    judge = Judge(service.url, attempts=2, timeout=0.5)
    rows = score(make_question(), ["a", "hang", "b"], judge)
    assert [row["judge"] for row in rows] == [1.0, None, 1.0]
    assert "Timeout" in rows[1]["judge/error"]
    assert service.requests["hang"] == 2


@pytest.mark.slow
def test_one_that_outlasts_the_deadline_too(make_question, service):
    rows = score(make_question(), ["a", "hang", "b"], Judge(service.url, attempts=1, timeout=600.0), deadline=4.0)
    assert [row["judge"] for row in rows] == [1.0, None, 1.0]
    assert "no verdict within 4 s" in rows[1]["judge/error"]
    assert service.requests == {"a": 1, "b": 1, "hang": 2}  # what was answered before is not asked again


def test_nobody_there(make_question, service):
    service.server_close()
    (row,) = score(make_question(), ["a"], Judge(service.url))
    assert "ConnectError" in row["judge/error"]


def test_one_by_one_is_the_same(make_question, service):
    judge = Judge(service.url)
    assert judge.verify(make_question(), Completion("", "a", None)).score == 1.0
    with pytest.raises(httpx.HTTPStatusError):
        judge.verify(make_question(), Completion("", "refused", None))


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"other": 1}', "\x00\xff", '{"reply": '])
def test_a_damaged_entry_is_asked_for_again_and_mended(make_question, service, tmp_path, caplog, damage):
    score(make_question(), ["a"], Judge(service.url))
    (entry,) = (tmp_path / "cache" / "remote").rglob("*.json")
    whole = entry.read_bytes()
    entry.write_text(damage, encoding="latin-1")
    assert score(make_question(), ["a"], Judge(service.url))[0]["judge"] == 1.0
    assert f"{entry} cannot be used and is asked for again" in caplog.text
    assert service.requests == {"a": 2} and entry.read_bytes() == whole


def test_failures_are_not_kept(make_question, service, tmp_path):
    score(make_question(), ["broken", "garbage", "refused"], Judge(service.url))
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_a_folder_that_takes_no_files_costs_no_verdict(make_question, service, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert score(make_question(), ["a"], Judge(service.url))[0]["judge"] == 1.0
    assert "a reply was not kept" in caplog.text


def test_what_was_kept_comes_back_and_nothing_else(tmp_path):
    cache = Cache(tmp_path)
    assert cache.read("ab") is None
    cache.write("ab", {"reply": None})
    cache.write("cd", {"reply": ["é", "\ud800", 1.5]})
    assert cache.read("ab") == {"reply": None}
    assert cache.read("cd") == {"reply": ["é", "\ud800", 1.5]}
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]  # no halves left behind


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), json_values, max_size=4), json_values)
def test_a_digest_stands_for_its_content_alone(asked, other):
    assert digest(dict(reversed(asked.items()))) == digest(json.loads(json.dumps(asked)))
    if json.dumps(other, sort_keys=True) != json.dumps(asked, sort_keys=True):
        assert digest(other) != digest(asked)


@pytest.mark.parametrize("asked", [{"a": object()}, {"a": float("nan")}])
def test_only_json_can_be_asked(asked):
    with pytest.raises(Error, match="must be JSON"):
        digest(asked)


def test_retry_after_is_seconds_or_a_date():
    assert retry_after("7") == 7.0
    assert retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)) == pytest.approx(
        30, abs=5
    )
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert [retry_after(text) for text in ("", "-3", "soon", "1e9", "nan")] == [None] * 5


def test_a_service_cannot_make_us_wait_for_ever(monkeypatch):
    class State:
        attempt_number = 1

        class outcome:
            @staticmethod
            def exception():
                reply = httpx.Response(
                    429, headers={"Retry-After": "99999999999"}, request=httpx.Request("POST", "http://x")
                )
                return httpx.HTTPStatusError("busy", request=reply.request, response=reply)

    assert remote.wait(State()) == remote.LONGEST_WAIT
    monkeypatch.setattr(State.outcome, "exception", lambda: httpx.ReadTimeout("late"))
    waits = {remote.wait(State()) for _ in range(20)}
    assert len(waits) > 10 and all(0 <= seconds <= 0.5 for seconds in waits)


def test_in_a_notebook_too(make_question, service):
    """A loop is already running there."""

    async def cell():
        return score(make_question(), ["a"], Judge(service.url))[0]["judge"]

    assert asyncio.run(cell()) == 1.0
