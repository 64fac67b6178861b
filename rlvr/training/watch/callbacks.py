"""What watches a trainer: a line in the terminal for each log, and the alarms with what they do.

    watch = Watcher(recipe, run_folder, truths)
    trainer = Trainer(..., callbacks=[watch])
    one_line_a_step(trainer)
    trainer.train()
    watch.refuse_to_go_on()

The main process decides; the others hear of it before the next step, so that all ranks take the same steps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, reduce
from torch.distributed.tensor import DTensor
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from rlvr import jsonlines
from rlvr.evaluation.monitors import Reading, monitor
from rlvr.recipe import Recipe
from rlvr.training.watch.alarms import FILE, Alarms, Fired
from rlvr.training.watch.line import line
from rlvr.types import Error

log = logging.getLogger(__name__)


class Stopped(Error):
    """An alarm ended training, after a step that is saved. train.py ends with code 3."""


def one_line_a_step(trainer: Any) -> None:
    """Our line for each log in the place of transformers' bar and dictionaries."""
    for theirs in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(theirs)
    trainer.add_callback(_Lines())


class _Lines(TrainerCallback):  # type: ignore[misc]
    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._at, self._step = time.perf_counter(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] = {}, **_: Any) -> None:
        if not state.is_world_process_zero or "loss" not in logs or state.global_step <= self._step:
            return
        now = time.perf_counter()
        seconds = (now - self._at) / (state.global_step - self._step)
        self._at, self._step = now, state.global_step
        print(line(logs, state.global_step, state.max_steps, seconds), flush=True)


class Watcher(TrainerCallback):  # type: ignore[misc]
    """The alarms of a GRPO run, as a callback; what goes off is a line on stderr and a row of alarms.jsonl.

    truths: question id -> right label, for the monitor of answers. A step whose gradient is not finite is not taken,
    whatever the alarms say, so that the weights stay as they were.
    """

    def __init__(self, recipe: Recipe, folder: Path, truths: Mapping[str, str]) -> None:
        self._watch, self._folder, self._truths = recipe.watch, folder, truths
        self._path = folder / FILE
        self._weights = {name: (values or {}).get("weight", 1.0) for name, values in recipe.verifiers.items()}
        self._alarms = Alarms(recipe.watch)
        self._stop = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:  # a run that was killed before its first checkpoint may have left rows
            self._cut(0)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        trained = [p for p in parts["model"].parameters() if p.grad is not None]
        # Under FSDP2 each rank has its part of a gradient, so they ask one another.
        own = [p.grad.to_local() if isinstance(p.grad, DTensor) else p.grad for p in trained]
        bad = torch.tensor(float(not all(torch.isfinite(gradient).all() for gradient in own)), device=args.device)
        if (reduce(bad) if args.world_size > 1 else bad).item():
            for parameter in trained:
                parameter.grad = None

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] = {}, **parts: Any) -> None:
        if "loss" not in logs:  # the summary at the end
            return
        schedule = getattr(parts["lr_scheduler"], "scheduler", parts["lr_scheduler"])  # inside accelerate's
        floor = self._watch.floor * args.learning_rate
        # A schedule without base rates (reduce_lr_on_plateau) lowers the rate by itself: nothing is to be lowered.
        lowest = all(base <= floor for base in getattr(schedule, "base_lrs", []))
        fired = self._read(state.global_step, logs, lowest) if state.is_world_process_zero else []
        halvings = 0 if lowest else sum(alarm.action == "lower_rate" for alarm in fired)
        stop = next((alarm.text for alarm in fired if alarm.action == "stop"), "")
        if (here := PartialState()).num_processes > 1:
            told = broadcast(torch.tensor([halvings, bool(stop)], device=here.device), from_process=0)
            halvings, stop = int(told[0]), stop or "an alarm of the main process" * bool(told[1])
        for _ in range(halvings):
            _halve(parts["optimizer"], schedule, floor)
        if stop:
            self._stop = stop
            control.should_save = control.should_training_stop = True

    def refuse_to_go_on(self) -> None:
        """After training: raise Stopped if an alarm ended it."""
        if self._stop:
            raise Stopped(
                f"{self._stop}; stopped, and saved in {self._folder / 'checkpoints'}: the same command goes on from "
                "there, silent on this alarm until its metric has been back within; or change the recipe"
            )

    def state(self) -> dict[str, Any]:
        return {**self._alarms.state(), "rows": len(jsonlines.read(self._path)[0])}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Back to a checkpoint: rows that were written after it will be written again."""
        self._alarms.restore(state)
        self._cut(state["rows"])

    def _cut(self, count: int) -> None:
        """Keep the first `count` alarms; half a line, which a kill has left, goes too."""
        if PartialState().is_main_process:
            jsonlines.keep(self._path, jsonlines.read(self._path)[0][:count])

    def _read(self, step: int, logs: Mapping[str, Any], lowest: bool) -> list[Fired]:
        every = self._watch.monitors_every
        due = self._watch.hacking.action != "none" and step % every == 0
        fired = self._alarms.read(step, logs, self._monitors() if due else [], lowest)
        for alarm in fired:
            log.warning("%s", alarm.text)
        if fired:
            jsonlines.append(self._path, [{**asdict(alarm), "time": time.time()} for alarm in fired])
        return fired

    def _monitors(self) -> list[Reading]:
        try:
            return monitor(self._folder / "rollouts", self._weights, self._truths)
        except Error as error:  # what watches a run must not end it
            log.warning("hacking monitors: %s", error)
            return []


def _halve(optimizer: Any, schedule: Any, floor: float) -> None:
    """Halve the learning rate, now and in what its schedule has to come; a checkpoint keeps both."""
    for place, (group, base) in enumerate(zip(optimizer.param_groups, schedule.base_lrs, strict=True)):
        schedule.base_lrs[place] = max(base / 2, floor)
        group["lr"] *= schedule.base_lrs[place] / base
    schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
    if PartialState().is_main_process:
        log.warning("learning rate: %.3g from the next step on", schedule._last_lr[0])
