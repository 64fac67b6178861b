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

Rules (`rlvr.rewards.layer` enforces what code can, `rlvr verifiers check` tries the rest): a wrong, missing or
unparsable answer scores 0, never None; whether a verifier abstains depends on the question alone; verdicts do
not depend on the order of the batch; a verifier that cannot do its work raises. What it is given is its own copy, which
nobody else reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal, get_args

from rlvr.types import Completion, Question, Verdict

Pair = tuple[Question, Completion]
Kind = Literal["hard", "soft"]


@dataclass(frozen=True)
class Honest:
    """What an honest completion holds to earn a verifier's best score: a sentence for its thought ("" where
    the thought is free), and the value of its answer, in the form of `truth["answer"]`."""

    thought: str
    answer: Any


@dataclass(frozen=True)
class Verifier(ABC):
    """Scores completions. Options are dataclass fields; the recipe sets them and their types are checked.

    tasks: patterns of the tasks it can judge. catches: the cheats of `rlvr.testing.redteam` that it must rank strictly
    below the reference answer (none may ever rank above). network: whether it leaves the machine. proper: whether
    it is a proper scoring rule, which GRPO must not scale by the group's deviation (arXiv:2508.11800).
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "hard"
    tasks: ClassVar[tuple[str, ...]] = ("*",)
    catches: ClassVar[frozenset[str]] = frozenset()
    network: ClassVar[bool] = False
    proper: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        """TypeError where a class attribute is not of its type: a `kind` misspelt would be judged as neither."""
        super().__init_subclass__(**options)
        if cls.kind not in get_args(Kind) or not isinstance(cls.version, str):
            raise TypeError(f"{cls.__name__}: kind {cls.kind!r}, version {cls.version!r}; give hard or soft, and text")
        for name in ("tasks", "catches"):
            value = getattr(cls, name)
            if isinstance(value, str) or not all(isinstance(item, str) for item in value):
                raise TypeError(f"{cls.__name__}: {name} is {value!r}; give several strings, as in ('cell/type',)")

    def applies(self, question: Question) -> bool:
        """Whether this verifier has anything to say of the question (by task, unless overridden)."""
        return any(fnmatchcase(question.task, pattern) for pattern in self.tasks)

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Called once before a run, an evaluation or a rescoring. Error where what it reads is missing or unfit, so
        that nothing is spent before that shows."""

    @abstractmethod
    def verify(self, question: Question, completion: Completion) -> Verdict:
        """The verdict on one completion. Raises if it cannot be given."""

    def verify_batch(self, pairs: Sequence[Pair]) -> Sequence[Verdict]:
        """Verdicts in the order of `pairs`; override where a batch is cheaper than a loop."""
        return [self.verify(question, completion) for question, completion in pairs]

    async def averify_batch(self, pairs: Sequence[Pair]) -> Sequence[Verdict]:
        """The same, for verifiers that wait on something remote: override this one, and all of a recipe's wait
        at the same time."""
        return self.verify_batch(pairs)

    def honest(self, question: Question) -> Honest:
        """How to earn the most on this question, for the conformance kit and the red team."""
        return Honest("", question.truth["answer"])


@dataclass(frozen=True)
class KnowledgeVerifier(Verifier):
    """A verifier that reads a knowledge base.

    knowledge: its name, as `KnowledgeBase.open` takes it, or None for none. It is opened before the first batch, so
    that no deadline runs while it is built, and its version is kept with every evaluation. The conformance kit puts
    "sample" in the place of "upstream".
    """

    knowledge: str | None = "upstream"
