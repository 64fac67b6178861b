"""Files of one JSON object a line: read in spite of a kill, appended to, cut back.

pytest tests/spine/test_jsonlines.py
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rlvr import jsonlines
from rlvr.types import Error


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert jsonlines.read(path) == ([], 0)
    jsonlines.append(path, [{"text": "a\u2028b\nc"}, {"x": 0.1 + 0.2}])
    jsonlines.append(path, [{"x": math.inf}])
    assert jsonlines.read(path) == ([{"text": "a\u2028b\nc"}, {"x": 0.1 + 0.2}, {"x": math.inf}], 0)


@pytest.mark.parametrize("torn", [b'{"x": 1', b"[1]\n", b"nonsense\n", b'{"x": "\xc3', b"[" * 10**5])
def test_lines_that_are_no_object_are_counted_and_cut(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"x": 0}\n\n' + torn)
    assert jsonlines.read(path) == ([{"x": 0}], 1)
    jsonlines.keep(path, [{"x": 0}])
    assert path.read_bytes() == b'{"x": 0}\n'


def test_what_holds_the_rows_already_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    jsonlines.keep(path, [])
    assert not path.exists()
    jsonlines.append(path, [{"x": 0}])
    before = path.stat().st_ino
    jsonlines.keep(path, [{"x": 0}])
    assert path.stat().st_ino == before


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"cannot write .*rows\.jsonl: .*free some space"):
        jsonlines.append(tmp_path / "missing" / "rows.jsonl", [{}])
