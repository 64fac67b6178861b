"""The rules of the test session (tests/session.py): no network, one line for what is not here."""

from __future__ import annotations

import os
import socket
import threading
import urllib.error
import urllib.request

import pytest

from rlvr.files import cache_dir
from tests import session


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "0.0.0.0", b"localhost", None, ""])
def test_this_machine_is_local(host: object) -> None:
    assert session.is_local(host)


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "8.8.8.8", "2001:4860:4860::8888", "localhost.org"])
def test_other_machines_are_not(host: str) -> None:
    assert not session.is_local(host)


def test_no_test_reaches_another_machine() -> None:
    with pytest.raises(urllib.error.URLError, match="tests reach this machine alone"):
        urllib.request.urlopen("http://example.org", timeout=5)
    with socket.socket() as bare, pytest.raises(session.NetworkRefused):
        bare.connect(("192.0.2.1", 80))
    with socket.socket() as bare, pytest.raises(session.NetworkRefused):
        bare.connect_ex(("192.0.2.1", 80))


def test_a_test_may_talk_to_a_server_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"yes"), daemon=True).start()
        with socket.create_connection(server.getsockname(), timeout=5) as client:
            assert client.recv(3) == b"yes"


@pytest.mark.skipif(bool(os.environ.get("RLVR_DATA")), reason="RLVR_DATA is set")
def test_what_lies_in_a_users_cache_decides_nothing() -> None:
    assert not (cache_dir() / "files").exists()
    session.meet("slow")
    for mark in ("perturbqa", "upstream"):
        with pytest.raises(pytest.skip.Exception, match="RLVR_DATA is not set"):
            session.meet(mark)
