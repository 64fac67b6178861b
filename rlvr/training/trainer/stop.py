"""SIGTERM, as clusters send before they take a machine back: save at the next step boundary, then exit with STOPPED.

    exit_on_sigterm()                                 # first thing in train.py: outside training, exit at once
    Trainer(..., callbacks=[SaveOnSigterm()])         # Resuming (see resume.py) adds it to each of its trainers

What counts is on the disk at any moment, so the same command goes on from there. `accelerate launch` reports any
code but 0 as 1; a scheduler that acts on STOPPED starts train.py itself, through torchrun or srun.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from typing import Any

import torch
from accelerate.utils import reduce
from transformers import TrainerCallback

from rlvr.processes import end_with_parent

log = logging.getLogger(__name__)

STOPPED = 75  # EX_TEMPFAIL of sysexits.h: try again


def exit_on_sigterm() -> None:
    """Exit with STOPPED on SIGTERM; also once the launcher dies, which may not pass the signal on."""
    signal.signal(signal.SIGTERM, _exit)
    end_with_parent(signal.SIGTERM)


def _exit(*_: Any) -> None:
    log.warning("SIGTERM: stopped; the same command goes on from here")
    sys.exit(STOPPED)


class SaveOnSigterm(TrainerCallback):  # type: ignore[misc]
    """While training: a checkpoint at the end of the step in which the signal came to any rank, then the exit."""

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = signal.SIG_DFL

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        if threading.current_thread() is threading.main_thread():  # only there may a handler be set
            self._before = signal.signal(signal.SIGTERM, self._ask)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.world_size > 1:  # all must save at the same step
            self._asked = bool(reduce(torch.tensor(float(self._asked), device=args.device)).item())
        control.should_save |= self._asked

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._asked:
            log.warning("SIGTERM: step %d is saved; the same command goes on from there", state.global_step)
            sys.exit(STOPPED)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, *_: Any) -> None:
        self._asked = True
