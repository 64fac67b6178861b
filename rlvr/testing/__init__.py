"""The conformance kit: tries a verifier on real questions, with honest, wrong, broken and cheating completions.

    rlvr verifiers check NAME_OR_FILE      rlvr verifiers check --all

    from rlvr.testing import VerifierConformance        # in your own tests, under pytest

    class TestShort(VerifierConformance):
        verifier = Short()

A check gives a Finding: its name, whether it passed, and what was seen. What each looks for is said in
`rlvr.testing.checks`; the cheats stand in `rlvr.testing.redteam`.
"""

from rlvr.testing.checks import CHECKS, Finding, check
from rlvr.testing.conformance import VerifierConformance
from rlvr.testing.questions import sample_questions
from rlvr.testing.recipes import check_recipe
from rlvr.testing.report import Report, check_all, check_named

__all__ = [
    "CHECKS",
    "Finding",
    "Report",
    "VerifierConformance",
    "check",
    "check_all",
    "check_named",
    "check_recipe",
    "sample_questions",
]
