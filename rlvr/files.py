"""Where built files go, and how a file or folder is written so that a reader sees the whole of it or nothing.

with aside(path) as side:
side.write_bytes(data)
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from rlvr.types import Error


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
