"""Checkpoints that are whole or not there: written to the side, summed, renamed.

    publish(checkpoints / ".partial" / "checkpoint-20", checkpoints)
    newest(checkpoints)          # the last one whose files are what was written; None where there is none

Nothing in a checkpoint is read before its sums agree. They guard against disks, not against people: whoever can
write the folder can write the sums, so nothing of it is unpickled blindly either (torch.load with weights_only=True).
"""

from __future__ import annotations

import json
import logging
import os
import re
from hashlib import file_digest
from pathlib import Path

from rlvr.files import write_atomically

log = logging.getLogger(__name__)

SUMS = "sha256.json"
NAME = re.compile(r"checkpoint-(\d+)")


def publish(side: Path, home: Path) -> None:
    """Move a finished checkpoint from the side into `home`, on the disk: a reader, or a power cut, finds all of it
    or nothing."""
    write_atomically(side / SUMS, json.dumps(_sums(side), indent=1).encode())
    for path in [*side.rglob("*"), side]:
        _to_disk(path)
    side.rename(home / side.name)
    _to_disk(home)


def newest(home: Path) -> Path | None:
    """The checkpoint of the latest step that is what was written. Later ones that are not are renamed out of the way
    (`damaged-...`), with one line each."""
    named = ((NAME.fullmatch(path.name), path) for path in home.glob("checkpoint-*"))
    for _, path in sorted(((int(match[1]), path) for match, path in named if match), reverse=True):
        fault = damage(path)
        if fault is None:
            return path
        log.warning("%s is damaged (%s): ignored", path, fault)
        number = next(n for n in range(10**6) if not _damaged(path, n).exists())
        path.rename(_damaged(path, number))
    return None


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None: each file is there and is what was written."""
    try:
        known = json.loads((checkpoint / SUMS).read_bytes())
        found = _sums(checkpoint)
    except (OSError, ValueError):
        return f"{SUMS} cannot be read"
    if not isinstance(known, dict):
        return f"{SUMS} holds no sums"
    for name in sorted(known.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if found[name] != known.get(name):
            return f"{name} is not what was saved"
    return None


def _damaged(path: Path, number: int) -> Path:
    return path.with_name(f"damaged-{path.name}" + (f"-{number}" if number else ""))


def _sums(folder: Path) -> dict[str, str]:
    """sha256 of each file below a folder, by its relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SUMS:
            with path.open("rb") as content:
                found[path.relative_to(folder).as_posix()] = file_digest(content, "sha256").hexdigest()
    return found


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
