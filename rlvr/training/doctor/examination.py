"""The examination: every check on one recipe, and what they amount to: `examine(recipe).go`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rlvr.recipe import Recipe
from rlvr.training.doctor import adapter, batch, memory, objective, sampling, text, versions
from rlvr.training.doctor.facts import Machine, Setup
from rlvr.training.doctor.findings import Check, Finding, Severity
from rlvr.training.doctor.setup import here, open_setup
from rlvr.training.doctor.trial import Trial, judge, try_out

MODULES = (versions, batch, memory, text, adapter, sampling, objective)
CHECKS: tuple[Check, ...] = tuple(check for module in MODULES for check in module.CHECKS)


@dataclass(frozen=True)
class Diagnosis:
    """What was found. memory: bytes per process, by part, or empty where it could not be estimated."""

    setup: Setup
    findings: tuple[Finding, ...]
    memory: dict[str, int]
    trial: Trial | None

    @property
    def go(self) -> bool:
        return not any(finding.severity is Severity.REFUSE for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for `--json`."""
        setup = self.setup
        return {
            "go": self.go,
            "checks": len(CHECKS),
            "findings": [asdict(finding) for finding in self.findings],
            "versions": dict(setup.installed),
            "machine": asdict(setup.machine),
            "batch": None if setup.batch is None else {**asdict(setup.batch), "prompts": setup.batch.prompts},
            "size": None if setup.size is None else asdict(setup.size),
            "longest_prompt": None if setup.texts is None else setup.texts.longest,
            "memory": self.memory,
            "available": memory.available(setup),
            "trial": None if self.trial is None else asdict(self.trial),
        }


def examine(recipe: Recipe, processes: int = 1, ask: int = 0, machine: Machine | None = None) -> Diagnosis:
    """Open the recipe without loading a weight, make every check, and, with `ask`, put so many training questions to
    the untrained model (loads it)."""
    setup, found = open_setup(recipe, processes, machine or here())
    found += look(setup)
    measurable = all(getattr(setup, need) is not None for need in memory.NEEDS)
    sizes = memory.estimate(setup) if measurable else {}
    trial = None
    if ask and all(finding.severity is not Severity.REFUSE for finding in found):  # else it would not come to a run
        trial = try_out(setup, ask)
        found += judge(setup, trial)
    return Diagnosis(setup, tuple(found), sizes, trial)


def look(setup: Setup) -> list[Finding]:
    """What every check finds."""
    return [finding for check in CHECKS for finding in check(setup)]
