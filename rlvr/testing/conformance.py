"""The kit as a pytest mixin, for the tests of a verifier of your own.

class TestShort(VerifierConformance):
    verifier = Short()
    questions = [...]      # where the verifier is for tasks that rlvr has no sample questions of
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rlvr.testing.checks import CHECKS, Finding
from rlvr.testing.report import Report, run
from rlvr.types import Question
from rlvr.verifier import Verifier


class VerifierConformance:
    """One test for each check. Everything is tried once for a class; the tests read what was found."""

    verifier: Verifier
    questions: Sequence[Question] = ()
    _reports: ClassVar[dict[type, Report]] = {}

    def finding(self, check: str) -> Finding:
        """What a check found, over all tasks of the verifier."""
        cls = type(self)
        if cls not in self._reports:
            self._reports[cls] = run(self.verifier, self.questions)
        return next(finding for finding in self._reports[cls].findings if finding.check == check)


def _test(check: str) -> Callable[[VerifierConformance], None]:
    def test(self: VerifierConformance) -> None:
        found = self.finding(check)
        assert found.ok, f"{found.check}: {found.detail}"

    test.__name__, test.__doc__ = f"test_{check}", CHECKS[check].__doc__
    return test


for _check in CHECKS:
    setattr(VerifierConformance, f"test_{_check}", _test(_check))
