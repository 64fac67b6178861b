"""From findings to a report: one verifier by name or file, or all that are built in.

check_named("label").render()          what `rlvr verifiers check label` prints
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvr import plugins, prompts
from rlvr.testing import checks
from rlvr.testing.checks import CHECKS, Finding
from rlvr.testing.questions import by_task, embedded, sample_questions
from rlvr.testing.trial import FAULTS
from rlvr.types import Error, Question
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Report:
    """What the kit found of one verifier, over all its tasks."""

    verifier: str
    version: str
    kind: str
    tasks: tuple[str, ...]
    questions: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)

    def rows(self) -> list[dict[str, str]]:
        """One row for each check: verifier, check, result, detail."""
        return [
            {"verifier": self.verifier, "check": f.check, "result": "ok" if f.ok else "FAILED", "detail": f.detail}
            for f in self.findings
        ]

    def render(self) -> str:
        """The report as text: a line of what was tried, then a line for each check."""
        tried = f"{self.questions} questions of {', '.join(self.tasks) or 'no task'}"
        head = f"{self.verifier} {self.version} ({self.kind}): {'ok' if self.ok else 'FAILED'}, {tried}"
        width = max(map(len, CHECKS))
        lines = [f"  {row['check']:<{width}}  {row['result']:<6}  {row['detail']}".rstrip() for row in self.rows()]
        return "\n".join([head, *lines])


def run(verifier: Verifier, questions: Sequence[Question] = ()) -> Report:
    """Every check on every task: on `questions`, or on the sample's where none are given. A check passes if it
    passes for each task; its detail is the first failure's. Tasks that the verifier does not apply to are left
    out, unless that leaves none."""
    asked = questions or sample_questions(*verifier.tasks)
    grouped = by_task(asked)
    fitting = {task: group for task, group in grouped.items() if _applies(verifier, group)} or grouped
    found = {task: checks.check(verifier, group, prompts.load(task)) for task, group in fitting.items()}
    merged = tuple(_merge([(task, findings[i]) for task, findings in found.items()]) for i in range(len(CHECKS)))
    count = sum(map(len, fitting.values()))
    return Report(verifier.name, verifier.version, verifier.kind, tuple(fitting), count, merged)


def _applies(verifier: Verifier, questions: Sequence[Question]) -> bool:
    """Whether the verifier has anything to say of any question; one that fails is asked again by the checks."""
    try:
        return any(verifier.applies(question) for question in questions)
    except FAULTS:
        return True


def _merge(findings: Sequence[tuple[str, Finding]]) -> Finding:
    """One check over several tasks."""
    failed = [(task, finding) for task, finding in findings if not finding.ok]
    check = findings[0][1].check
    if failed and not (check == "coverage" and len(failed) < len(findings)):
        task, first = failed[0]
        more = f" (and in {len(failed) - 1} more tasks)" if len(failed) > 1 else ""
        return Finding(first.check, False, f"{task}: {first.detail}{more}")
    if check == "speed":
        task, slowest = min(findings, key=lambda item: float(item[1].detail.split()[0].replace(",", "")))
        return Finding("speed", True, f"{slowest.detail}, in {task}")
    return Finding(check, True, "; ".join(f"{task}: {f.detail}" for task, f in findings if f.detail))


def check_named(name_or_file: str) -> Report:
    """The report on a built-in or installed verifier, or on a file with one Verifier subclass in it. Options have
    their defaults, but `knowledge` is "sample": nothing is fetched."""
    if name_or_file.endswith(".py"):
        plugin = plugins.load_file(Path(name_or_file), Verifier)
    else:
        plugin = plugins.load("verifiers", name_or_file, Verifier)
    try:
        verifier = plugin()
    except FAULTS as error:
        raise Error(f"{name_or_file} cannot be made of its defaults: {error!r}; give each option a good one") from error
    return run(embedded(verifier))


def check_all() -> list[Report]:
    """A report on every built-in verifier, by name."""
    return [check_named(name) for name, origin in sorted(plugins.names("verifiers").items()) if origin == "built in"]
