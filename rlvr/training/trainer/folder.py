"""A run's folder: opened afresh, or gone on with; never overwritten, never written by two runs, never of two recipes.

    lock = open_folder(Path("runs/quickstart"), recipe.to_dict(), {"base": "3f..", "questions": "a1..", "ranks": 1})

A run without its report.html is unfinished: the same command goes on with it. `versions.json` says what it is made of.
"""

from __future__ import annotations

import fcntl
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from rlvr.evaluation.provenance import versions
from rlvr.files import folder_aside
from rlvr.types import Error

log = logging.getLogger(__name__)

PATIENCE = 60  # seconds that a killed run may take to end before the next one is refused


def open_folder(folder: Path, recipe: Mapping[str, Any], made_of: Mapping[str, Any]) -> IO[bytes]:
    """Make the folder ready and lock it; the lock ends with the process, however that ends.

    made_of: what a run that goes on must share with its beginning, beside the recipe. A finished run of this name, or
    a folder that is no run, is moved aside with a line. Errors: an unfinished run of another recipe or made of
    something else; one that another process is writing.
    """
    unfinished = (folder / "recipe.yaml").is_file() and not (folder / "report.html").is_file()
    if folder.exists() and not unfinished:
        number = next(n for n in range(1, 10**6) if not Path(f"{folder}-{n}").exists())
        folder.rename(f"{folder}-{number}")
        log.warning("%s exists: moved to %s-%d", folder, folder, number)
    if not unfinished:
        with folder_aside(folder) as side:
            (side / "recipe.yaml").write_text(yaml.safe_dump(dict(recipe), sort_keys=False), encoding="utf-8")
            (side / "versions.json").write_text(json.dumps({**versions(), **made_of}, indent=2))
        return _locked(folder)
    lock = _locked(folder)
    _refuse_another(folder, recipe, made_of)
    log.warning("%s: going on with the unfinished run", folder)
    return lock


def _locked(folder: Path) -> IO[bytes]:
    lock = (folder / ".lock").open("wb")
    for waited in range(PATIENCE + 1):
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            if waited == 0:
                log.warning("%s: another process is writing this run; waiting for its end", folder)
            time.sleep(1)
    raise Error(f"{folder}: another process is writing this run; let it end, or choose another output_dir")


def _refuse_another(folder: Path, recipe: Mapping[str, Any], made_of: Mapping[str, Any]) -> None:
    way_out = "finish that run with what it began with, choose another output_dir, or move the folder away"
    try:
        begun = _flat(yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8")))
        was = json.loads((folder / "versions.json").read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Error(f"{folder} holds an unfinished run that cannot be read ({error}); move the folder away") from error
    asked = _flat(yaml.safe_load(yaml.safe_dump(dict(recipe))))
    for key in sorted((begun.keys() | asked.keys()) - {"output_dir"}):  # the same folder may be named in two ways
        if begun.get(key) != asked.get(key):
            raise Error(
                f"{folder} holds an unfinished run of another recipe: {key} is {begun.get(key)!r} there and "
                f"{asked.get(key)!r} here; {way_out}"
            )
    for key, now in made_of.items():
        if was.get(key) != now:
            raise Error(f"{folder} holds an unfinished run with {key} {was.get(key)}, and here it is {now}; {way_out}")
    changed = [f"{name} {was[name]} -> {now}" for name, now in versions().items() if was.get(name, now) != now]
    if changed:
        log.warning("%s: begun with other versions (%s); it may go on a little differently", folder, ", ".join(changed))


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in _flat(item, f"{path}.{name}" if path else str(name)).items()
    }
