"""What a checkpoint keeps beside the weights: one small protocol for everything that remembers.

    class Curriculum:
        def state(self) -> dict[str, Any]: ...            # plain JSON: what it would forget if the process died
        def restore(self, state: Mapping[str, Any]) -> None: ...

    trainer.keep("curriculum", curriculum)                # or pass a TrainerCallback with these two methods

Every rank keeps its own states, in `state_rank<r>.json` of each checkpoint, and gets them back before the first step
of a resumed run (after `on_train_begin` of the callbacks before it). A run that starts afresh restores nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rlvr.files import write_atomically
from rlvr.types import Error

log = logging.getLogger(__name__)


@runtime_checkable
class Resumable(Protocol):
    """Remembers something between steps, and says what as JSON. Floats survive exactly, NaN too."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...


def write_states(path: Path, parts: Mapping[str, Resumable]) -> None:
    """name -> state, as JSON; the whole file or none of it."""
    write_atomically(path, json.dumps({name: part.state() for name, part in parts.items()}, indent=1).encode())


def read_states(path: Path, parts: Mapping[str, Resumable]) -> None:
    """Give each part back what it kept. Errors: the file is missing or no JSON. A part that kept nothing starts
    afresh, with a line that says so."""
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Error(f"cannot read {path}: {error}; move it away to start that stage afresh") from error
    for name, part in parts.items():
        if name in kept:
            part.restore(kept[name])
        else:
            log.warning("%s keeps nothing of %s, which starts afresh", path, name)
