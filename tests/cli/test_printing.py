"""Tables of the commands fit where they are read."""

from __future__ import annotations

import os
import sys

import pytest

from rlvr.cli.printing import PIPE, print_rows

ROWS = [{"name": "a", "what": "word " * 40}]


def longest(capsys: pytest.CaptureFixture[str]) -> int:
    print_rows(ROWS)
    return max(map(len, capsys.readouterr().out.splitlines()))


def test_a_piped_table_fits_the_terminal_that_reads_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "fileno", lambda: 2, raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((80, 24)))
    assert longest(capsys) <= 80


def test_without_a_terminal_a_row_stays_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(fd: int) -> os.terminal_size:
        raise OSError("not a terminal")

    monkeypatch.setattr(os, "get_terminal_size", none)
    assert 200 <= longest(capsys) <= PIPE
