"""Alarms: which metric, on which side of a limit, for how many steps, says that a run goes wrong.

    alarms = Alarms(recipe.watch)
    for fired in alarms.read(step, logs): print(fired.text)        # logs: what TRL logs at that step

An alarm goes off once its metric has been beyond its limit for `patience` training steps on end, and is then silent
until the metric has been back within. One that lowers the learning rate goes off again after as many steps more, until
the rate is at its floor.
Limits, patience and actions stand in the recipe's section `watch`, with the defaults of `rlvr.recipe.Watch`:

- zero_variance, truncation, importance_ratio, kl, gradient are metrics of TRL's as they are logged. Groups without
  variance teach nothing (DAPO, arXiv:2503.14476); a ratio far below 1 means that vLLM and the trainer no longer agree
  and most tokens are masked (github.com/huggingface/trl/issues/4772).
- entropy is measured against its own mean over the first `FIRST` logs, as what is low depends on the model and the
  warm start. Once it has collapsed, nothing new is tried (arXiv:2505.22617).
- reward is the mean of the last `RECENT` logs against the best such mean. A weight that a schedule lowers, lowers it.
- verifier_errors is read for each verifier, hacking for each of `rlvr.evaluation.monitors`: 1 where it is
  beyond its own limit, else 0. not_finite counts the infinite and undefined among loss and gradient norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlvr.evaluation.monitors import Reading
from rlvr.recipe import Alarm, Watch

FIRST, RECENT = 10, 10
FILE = "alarms.jsonl"
METRICS = {
    "frac_reward_zero_std": "zero_variance",
    "completions/clipped_ratio": "truncation",
    "sampling/importance_sampling_ratio/mean": "importance_ratio",
    "kl": "kl",
    "grad_norm": "gradient",
}
BELOW = {"importance_ratio", "entropy", "reward"}
MEANING = {
    "zero_variance": "most groups have one reward and teach nothing; ask other questions or raise num_generations",
    "truncation": "completions are cut off; raise grpo.max_completion_length or reward brevity",
    "importance_ratio": "vLLM and the trainer disagree; set vllm.dtype to the trainer's, or token_truncate",
    "entropy": "the policy no longer varies; lower the learning rate or set grpo.entropy_coef",
    "kl": "the policy leaves its reference; lower the learning rate or raise grpo.beta",
    "verifier_errors": "a verifier fails and its rows are lost; see rollouts, column <verifier>/error",
    "hacking": "the reward may be gamed; read the latest rollouts",
    "gradient": "the gradient is large; lower the learning rate",
    "reward": "the reward has collapsed; go back to an earlier checkpoint with a lower learning rate",
    "not_finite": "that update was left out; lower the learning rate or train in a wider dtype",
}


@dataclass(frozen=True)
class Fired:
    """An alarm that went off. subject: the verifier or the monitor it is about, or ""; detail: what a monitor says."""

    alarm: str
    subject: str
    step: int
    value: float
    limit: float
    patience: int
    action: str
    detail: str = ""

    @property
    def text(self) -> str:
        """One line: where, what, and what to do."""
        about = f" {self.subject}" if self.subject else ""
        side = "below" if self.alarm in BELOW else "above"
        return (
            f"alarm {self.alarm}{about}: {self.value:.3g} at step {self.step}, {side} {self.limit:g} "
            f"for {self.patience} step{'s' * (self.patience > 1)}: {self.detail or MEANING[self.alarm]}"
        )


class Alarms:
    """The alarms of a run, and what they remember from step to step (`state`, `restore`)."""

    def __init__(self, watch: Watch) -> None:
        self._limits: dict[str, Alarm] = {name: getattr(watch, name) for name in MEANING}
        self._read_at: dict[str, int] = {}  # alarm and subject -> the step at which it was last read
        self._beyond: dict[str, int] = {}  # alarm and subject -> training steps beyond the limit, on end
        self._told: set[str] = set()  # those that have gone off and are not yet back within
        self._entropies: list[float] = []  # the first ones
        self._rewards: list[float] = []  # the last ones
        self._best = 0.0

    def read(
        self, step: int, logs: Mapping[str, Any], monitors: Sequence[Reading] = (), lowest: bool = False
    ) -> list[Fired]:
        """What goes off at this log. monitors: their readings, at the steps at which they were read; lowest: whether
        the learning rate is at its floor."""
        found = [(name, subject, value, "") for name, subject, value in self._values(logs)]
        fired = []
        for name, subject, value, detail in [*found, *map(_tripped, monitors)]:
            alarm, key = self._limits[name], f"{name} {subject}"
            passed, self._read_at[key] = step - self._read_at.get(key, 0), step
            beyond = value < alarm.limit if name in BELOW else value > alarm.limit
            if not beyond:
                self._beyond.pop(key, None)
                self._told.discard(key)
                continue
            self._beyond[key] = self._beyond.get(key, 0) + passed
            if alarm.action == "none" or self._beyond[key] < alarm.patience or key in self._told:
                continue
            fired.append(Fired(name, subject, step, value, alarm.limit, alarm.patience, alarm.action, detail))
            if alarm.action == "lower_rate" and not lowest:
                self._beyond[key] = 0
            else:
                self._told.add(key)
        return fired

    def _values(self, logs: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
        for key, value in logs.items():
            if not isinstance(value, int | float) or math.isnan(value):
                continue
            if key in METRICS:
                yield METRICS[key], "", value
            elif key.startswith("errors/"):
                yield "verifier_errors", key.removeprefix("errors/"), value
            elif key == "entropy":
                if len(self._entropies) < FIRST:
                    self._entropies.append(value)
                elif (first := sum(self._entropies) / FIRST) > 0:
                    yield "entropy", "", value / first
            elif key == "reward":
                self._rewards = [*self._rewards, value][-RECENT:]
                recent = sum(self._rewards) / RECENT
                if len(self._rewards) == RECENT:
                    self._best = max(self._best, recent)
                if self._best > 0:
                    yield "reward", "", recent / self._best
        yield "not_finite", "", sum(not math.isfinite(logs.get(key, 0.0)) for key in ("loss", "grad_norm"))

    def state(self) -> dict[str, Any]:
        return {
            "read_at": self._read_at,
            "beyond": self._beyond,
            "told": sorted(self._told),
            "entropies": self._entropies,
            "rewards": self._rewards,
            "best": self._best,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._read_at, self._beyond, self._told = dict(state["read_at"]), dict(state["beyond"]), set(state["told"])
        self._entropies, self._rewards, self._best = list(state["entropies"]), list(state["rewards"]), state["best"]


def _tripped(reading: Reading) -> tuple[str, str, float, str]:
    said = f"{reading.detail}; {MEANING['hacking']}"
    return "hacking", f"{reading.monitor} {reading.subject}".strip(), float(not reading.ok), said
