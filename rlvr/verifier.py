"""The verifier contract: one file in `verifiers/`, or one entry point of a pip package.

A complete verifier:

    from dataclasses import dataclass
    from typing import ClassVar
    from rlvr.types import Completion, Question, Reason, Verdict
    from rlvr.verifier import Verifier

    @dataclass(frozen=True)
    class Short(Verifier):
        '''1.0 for a thought of at most `words` words.'''
        name: ClassVar[str] = "short"
        words: int = 50

        def verify(self, question: Question, completion: Completion) -> Verdict:
            ok = completion.thought is not None and len(completion.thought.split()) <= self.words
            return Verdict(1.0 if ok else 0.0, Reason.CORRECT if ok else Reason.WRONG)

Rules (`rlvr.rewards` enforces what code can): a wrong, missing or unparsable answer scores 0, never
None; whether a verifier abstains depends on the question alone; verdicts do not depend on the order
of the batch; a verifier that cannot do its work raises.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rlvr.types import Completion, Question, Verdict

Pair = tuple[Question, Completion]


@dataclass(frozen=True)
class Verifier(ABC):
    """Scores completions. Options are dataclass fields; the recipe sets them and their types are checked."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    kind: ClassVar[Literal["hard", "soft"]] = "hard"

    def applies(self, question: Question) -> bool:
        """Whether this verifier has anything to say of the question (by task, usually)."""
        return True

    @abstractmethod
    def verify(self, question: Question, completion: Completion) -> Verdict:
        """The verdict on one completion. Raises if it cannot be given."""

    def verify_batch(self, pairs: Sequence[Pair]) -> Sequence[Verdict]:
        """Verdicts in the order of `pairs`; override where a batch is cheaper than a loop."""
        return [self.verify(question, completion) for question, completion in pairs]
