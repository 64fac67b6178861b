"""Oracles that are asked elsewhere: a service on this machine, sound and unsound, and a table of experiments."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rlvr.oracle import Experiments, Remote
from rlvr.types import Error

UP = {"up": 0.75, "down": 0.25}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.batches.append(asked["pairs"])
        if self.server.hang.is_set():
            self.server.released.wait(10)
        body = self.server.reply(asked["pairs"])
        self.send_response(200 if isinstance(body, dict) else 404)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.batches, server.hang, server.released = [], threading.Event(), threading.Event()
    server.reply = lambda pairs: {"probabilities": [None if p["perturbation"] == "G3" else UP for p in pairs]}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/predict"
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(make_question):
    return lambda names: [make_question({"perturbation": name}) for name in names]


def test_pairs_are_asked_once_in_batches_and_kept(service, ask):
    names = [f"G{i}" for i in range(7)]
    oracle = Remote(service.url, batch=3)
    asked = ask([*names, "G0"])
    found = oracle.probabilities(asked)
    assert found == [None if name == "G3" else UP for name in (*names, "G0")]
    assert sorted(map(len, service.batches)) == [1, 3, 3]
    assert all(set(pair) == {"task", "context", "perturbation", "readout"} for b in service.batches for pair in b)
    again = Remote(service.url, batch=2).probabilities(ask(["G6", "G3", "G9"]))
    assert again == [UP, None, UP]
    assert [pair["perturbation"] for pair in service.batches[-1]] == ["G9"] and len(service.batches) == 4
    Remote(service.url, release="2").probabilities(ask(["G6"]))
    assert len(service.batches) == 5
    assert oracle.coverage(asked) == {"covered": 7, "the service does not know": 1}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"probabilities": [UP]}, "no list probabilities of length 2"),
        ({"p": [UP, UP]}, "no list probabilities"),
        ({"probabilities": [UP, {"up": 0.5}]}, "G1, IL-2: .* each of up, down"),
        ({"probabilities": [UP, {"up": 2.0, "down": -1.0}]}, "with a sum of 1"),
        ({"probabilities": [UP, {"up": 0.9, "down": 0.9}]}, "with a sum of 1"),
        ({"probabilities": [UP, 0.5]}, "G1"),
        ([], "404"),
    ],
)
def test_an_unsound_reply_is_an_error_and_is_not_kept(service, ask, reply, said):
    sound, service.reply = service.reply, lambda pairs: reply
    with pytest.raises(Error, match=said):
        Remote(service.url).probabilities(ask(["G0", "G1"]))
    service.reply = sound
    assert Remote(service.url).probabilities(ask(["G0", "G1"])) == [UP, UP]


def test_a_service_that_hangs_meets_its_deadline(service, ask):
    service.hang.set()
    with pytest.raises(Error, match=r"1 pairs took longer than 0.3 s; raise the deadline"):
        Remote(service.url, deadline=0.3).probabilities(ask(["G0"]))


def test_another_task_is_refused(service, make_question):
    with pytest.raises(Error, match="perturbation/set has no probabilities"):
        Remote(service.url).probabilities([make_question(task="perturbation/set")])


def test_experiments_are_counted_and_never_certain(tmp_path, make_question):
    rows = ["ZAP70,up", *["LCK,up"] * 3, "LCK,down"]
    text = "context,perturbation,readout,label\n" + "".join(
        f"cd4_il2,{gene},IL-2,{label}\n" for gene, label in (row.split(",") for row in rows)
    )
    (tmp_path / "screen.csv").write_text(text)
    oracle = Experiments(str(tmp_path / "screen.csv"))
    asked = [make_question({"perturbation": gene}) for gene in ("ZAP70", "LCK", "CD4")]
    assert oracle.probabilities(asked) == [UP, {"up": 0.7, "down": 0.3}, None]
    assert oracle.coverage(asked) == {"covered": 2, "pair not measured": 1}
    assert oracle.source(asked[0]) == f"screen.csv {oracle.version}"
    with pytest.raises(Error, match="label 'up' does not fit perturbation/effect; give a table of yes, no"):
        oracle.probabilities([make_question({"perturbation": "ZAP70"}, task="perturbation/effect")])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("context,perturbation,readout\na,b,c\n", "'label' is missing"),
        ("context,perturbation,readout,label\n", "no rows"),
        ("context,perturbation,readout,label\na,b,c,up\na,,c,up\n", "row 2 has an empty cell"),
    ],
)
def test_faults_of_a_table_of_experiments(tmp_path, make_question, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(Error, match=said):
        Experiments(str(tmp_path / "t.csv")).probabilities([make_question()])
    with pytest.raises(Error, match="no such file"):
        Experiments(str(tmp_path / "u.csv")).probabilities([make_question()])
