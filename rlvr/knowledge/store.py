"""The one file that holds the knowledge base: its tables, how it is written, how it is read.

SQLite, written to the side in one transaction and renamed, so that a reader never sees a half. It never
changes after that: readers open it read-only and immutable, without locks, each process its own connection.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from filelock import FileLock

from rlvr.files import aside
from rlvr.types import Error

log = logging.getLogger(__name__)

Write = Callable[[str, Iterable[Sequence[Any]]], None]
FORMAT = "5"  # of the file: raise it when what is stored, or how it is built, changes
# Term ranks run from the rarest term to the most common one; blobs are little-endian int32 ranks or gene ids.
# A kind is what many facts have in common, so that a fact itself stays small. A day is a proleptic Gregorian ordinal
# (three bytes), NULL where the source gives none (no byte).
TABLES: dict[str, str] = {
    "meta": "key TEXT PRIMARY KEY, value TEXT",
    "release": "id INTEGER PRIMARY KEY, source TEXT, release TEXT, file TEXT, sha256 TEXT, licence TEXT, "
    "commercial INTEGER",
    "gene": "id INTEGER PRIMARY KEY, species TEXT, symbol TEXT, terms BLOB, UNIQUE (species, symbol)",
    "name": "species TEXT, name TEXT, rank INTEGER, symbol TEXT, PRIMARY KEY (species, name, rank, symbol)",
    "accession": "id TEXT, symbol TEXT, PRIMARY KEY (id, symbol)",
    "term": "rank INTEGER PRIMARY KEY, id TEXT UNIQUE, name TEXT, namespace TEXT, obsolete INTEGER, "
    "replaced_by TEXT, definition TEXT, consider TEXT, size INTEGER, ancestors BLOB, steps BLOB, genes BLOB",
    "alternative": "id TEXT PRIMARY KEY, rank INTEGER",
    "label": "label TEXT, rank INTEGER, PRIMARY KEY (label, rank)",
    "kind": "id INTEGER PRIMARY KEY, relation TEXT, release INTEGER, code TEXT, negated INTEGER, species TEXT",
    "fact": "subject TEXT, object TEXT, number INTEGER, kind INTEGER, reference TEXT, day INTEGER, "
    "PRIMARY KEY (subject, object, number)",
    "matrix": "id TEXT PRIMARY KEY, name TEXT, gene TEXT, place INTEGER, counts TEXT",
    "dropped": "release INTEGER, reason TEXT, name TEXT, rows INTEGER",
}
_CLUSTERED = {"name", "accession", "label", "fact"}  # the key is the table: one look-up, no second copy
_INDEXES = (
    "CREATE INDEX accession_symbol ON accession (symbol)",
    "CREATE INDEX fact_object ON fact (object)",
    "CREATE INDEX matrix_gene ON matrix (gene)",
)


def built(path: Path, fill: Callable[[Write], None], what: str) -> Path:
    """`path`, built if it is not there or not whole. Of several processes one builds, the others wait."""
    if _whole(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not _whole(path):
            if path.exists():
                log.warning("%s is unreadable: building it again", path)
            log.warning("building the %s knowledge base (once)", what)
            _create(path, fill)
    return path


def _whole(path: Path) -> bool:
    """Whether the file is there, of this format, and as long as it says itself."""
    if not path.is_file():
        return False
    try:
        connection = _connect(path)
        try:
            ((found,),) = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchall()
            ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
            ((size,),) = connection.execute("PRAGMA page_size").fetchall()
        finally:
            connection.close()
    except (sqlite3.Error, ValueError):
        return False
    return bool(found == FORMAT and pages * size == path.stat().st_size)


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
    return sqlite3.connect(uri, uri=True, check_same_thread=False)


def _create(path: Path, fill: Callable[[Write], None]) -> None:
    with aside(path) as side:
        connection = sqlite3.connect(side, isolation_level=None)

        def write(table: str, rows: Iterable[Sequence[Any]]) -> None:
            marks = ", ".join("?" * (TABLES[table].split(", PRIMARY")[0].split(", UNIQUE")[0].count(", ") + 1))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

        try:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            for table, columns in TABLES.items():
                connection.execute(f"CREATE TABLE {table} ({columns}){' WITHOUT ROWID' if table in _CLUSTERED else ''}")
            fill(write)
            write("meta", [("format", FORMAT)])
            for index in _INDEXES:
                connection.execute(index)
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise Error(f"cannot write {path}: {error}; free some space or choose another folder") from error
        finally:
            connection.close()


def blob(held: Iterable[int]) -> bytes:
    """Numbers as they are stored."""
    return np.fromiter(held, dtype="<i4").tobytes()


def numbers(held: bytes | None) -> list[int]:
    """Numbers as they were stored."""
    found: list[int] = np.frombuffer(held or b"", dtype="<i4").tolist()
    return found


class Store:
    """Reads one built file. The connection is opened at the first query, and again after a fork."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner = -1
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query. Errors: the file is gone or is no knowledge base."""
        if self._owner != os.getpid():  # a lock or a connection of the parent's is of no use to a child
            self._lock, self._connection, self._owner = threading.Lock(), None, os.getpid()
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _connect(self.path)
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise Error(
                    f"cannot read the knowledge base {self.path}: {error}; delete it and build it again"
                ) from error
