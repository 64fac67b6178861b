"""What verifiers say of a batch: for every pair one `Scored` or one `Failure`, whatever the verifiers do.

    columns = InProcess({"label": Label()}).ask(pairs)     # {"label": [Scored(1.0, "correct", "[...]"), ...]}

A verifier that overrides `averify_batch` is awaited, and all of them at the same time; then the others have their
turn, one after the other. A batch that raises is asked again pair by pair, so that one bad item costs one row. What a
verifier that rlvr does not ship gets is its own copy, afresh for each pair: what it does to a question or a completion
changes no other verdict, its own next one included. `rlvr.rewards.worker` asks in processes that can be killed; both
go through `ask`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from rlvr.rewards.trust import is_shipped
from rlvr.types import Completion, Evidence, Question, Reason, Verdict
from rlvr.verifier import Pair, Verifier

log = logging.getLogger(__name__)

MOST_TEXT = 4000  # characters of a traceback that are kept
AT_ONCE = 8  # pairs that a remote verifier is asked about at the same time, once its batch has failed
_encode = json.JSONEncoder(allow_nan=False, check_circular=False).encode


class Scored(NamedTuple):
    """A verdict that has passed every check, as plain data. `evidence`: JSON, a list of objects."""

    score: float | None
    reason: str
    evidence: str = "[]"


class Failure(NamedTuple):
    """In the place of a verdict: `summary` is one line, `text` the end of the traceback."""

    summary: str
    text: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
        message = "".join(traceback.format_exception_only(error)).strip().partition("\n")[0]
        return cls(f"{message[:300]}{place}", "".join(traceback.format_exception(error))[-MOST_TEXT:])


Said = Scored | Failure
NOT_APPLICABLE = Scored(None, str(Reason.NOT_APPLICABLE))
Begin = Callable[[str, Sequence[int]], None]  # a verifier starts on these pairs
Say = Callable[[str, int, Said], None]


class InProcess:
    """Asks the verifiers in this process: fast, and helpless against one that hangs or dies."""

    def __init__(self, verifiers: Mapping[str, Verifier]) -> None:
        self._verifiers = verifiers

    def ask(self, pairs: Sequence[Pair]) -> dict[str, list[Said]]:
        """verifier -> what it says of each pair, in order. Never raises for a fault of a verifier's."""
        columns: dict[str, list[Said]] = {name: [NOT_APPLICABLE] * len(pairs) for name in self._verifiers}

        def say(name: str, index: int, said: Said) -> None:
            columns[name][index] = said

        todo = {name: range(len(pairs)) for name in self._verifiers}
        ask(self._verifiers, pairs, todo, {}, lambda name, indices: None, say)
        return columns


def waits(verifier: Verifier) -> bool:
    """Whether a verifier has an asynchronous form of its own."""
    return type(verifier).averify_batch is not Verifier.averify_batch


def ask(
    verifiers: Mapping[str, Verifier],
    pairs: Sequence[Pair],
    todo: Mapping[str, Sequence[int]],
    singly: Mapping[str, int],
    begin: Begin,
    say: Say,
) -> None:
    """Ask each verifier of `todo` about its pairs, given by index. `begin` is told what is started, `say` what was
    said, once for each verifier and index. Verifiers in `singly` are asked pair by pair; its number is how many
    pairs a remote one may have in flight."""
    waiting = [_Turn(name, verifiers[name], pairs, begin, say) for name in todo if waits(verifiers[name])]
    if waiting:

        async def together() -> None:
            await asyncio.gather(*(turn.wait(todo[turn.name], singly.get(turn.name)) for turn in waiting))

        _finish(together())
    for name, indices in todo.items():
        if not waits(verifiers[name]):
            _Turn(name, verifiers[name], pairs, begin, say).take(indices, name in singly)


def _finish(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as pool:  # in a notebook this thread's loop is already running
        pool.submit(asyncio.run, work).result()


class _Copies(Sequence[Pair]):
    """The pairs, a copy at each look. A verifier may sort what a question holds, or write into it."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._questions: dict[int, bytes] = {}  # pickled once: a group shares its question

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        question, said = self._pairs[index]
        if id(question) not in self._questions:
            self._questions[id(question)] = pickle.dumps(question)
        turns = pickle.loads(pickle.dumps(said.turns)) if said.turns else ()
        copy: Question = pickle.loads(self._questions[id(question)])
        return copy, Completion(said.text, said.thought, said.answer, said.finished, turns)


class _Turn:
    """One verifier on one batch."""

    def __init__(self, name: str, verifier: Verifier, pairs: Sequence[Pair], begin: Begin, say: Say) -> None:
        self.name, self._verifier, self._begin, self._say = name, verifier, begin, say
        self._questions = [question for question, _ in pairs]
        self._pairs = pairs if is_shipped(verifier) else _Copies(pairs)
        self._silent: dict[int, Said | None] = {}  # by the identity of the question: what stands for no verdict

    def take(self, indices: Sequence[int], singly: bool) -> None:
        batches = type(self._verifier).verify_batch is not Verifier.verify_batch
        if batches and not singly:
            self._begin(self.name, indices)
            indices = self._concerned(indices)
            try:
                verdicts = list(self._verifier.verify_batch([self._pairs[i] for i in indices])) if indices else []
            except Exception as error:
                self._warn(error, len(indices))
            else:
                return self._say_all(indices, verdicts)
        verify, pairs, begin, say, name = self._verifier.verify, self._pairs, self._begin, self._say, self.name
        for index in indices:
            begin(name, (index,))
            said = self._silence(index)
            if said is None:
                try:
                    said = checked(verify(*pairs[index]))
                except Exception as error:
                    said = Failure.of(error)
            say(name, index, said)

    async def wait(self, indices: Sequence[int], singly: int | None) -> None:
        if singly is None:
            self._begin(self.name, indices)
            indices = self._concerned(indices)
            try:
                verdicts = await self._await(indices) if indices else []
            except Exception as error:
                self._warn(error, len(indices))
            else:
                return self._say_all(indices, verdicts)
        slots = asyncio.Semaphore(singly or AT_ONCE)

        async def one(index: int) -> None:
            async with slots:
                self._begin(self.name, (index,))
                if not self._concerned((index,)):
                    return
                try:
                    verdicts = await self._await((index,))
                except Exception as error:
                    self._say(self.name, index, Failure.of(error))
                else:
                    self._say_all((index,), verdicts)

        await asyncio.gather(*map(one, indices))

    async def _await(self, indices: Sequence[int]) -> list[object]:
        try:
            return list(await self._verifier.averify_batch([self._pairs[i] for i in indices]))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # the run is being stopped
                raise
            raise RuntimeError("averify_batch was cancelled from within") from error

    def _silence(self, index: int) -> Said | None:
        """What stands for a question on which there is no verdict; None where there is to be one."""
        key = id(self._questions[index])
        if key not in self._silent:  # abstention depends on the question alone, and a group shares its question
            try:
                self._silent[key] = None if self._verifier.applies(self._pairs[index][0]) else NOT_APPLICABLE
            except Exception as error:
                self._silent[key] = Failure.of(error)
        return self._silent[key]

    def _concerned(self, indices: Sequence[int]) -> Sequence[int]:
        """Those of the pairs that the verifier has to judge; the others are answered for it."""
        rest = []
        for index in indices:
            said = self._silence(index)
            if said is None:
                rest.append(index)
            else:
                self._say(self.name, index, said)
        return rest

    def _say_all(self, indices: Sequence[int], verdicts: Sequence[object]) -> None:
        if len(verdicts) == len(indices):
            for index, verdict in zip(indices, verdicts, strict=True):
                self._say(self.name, index, checked(verdict))
            return
        # Verdicts that cannot be matched to their pairs are worth nothing.
        message = f"gave {len(verdicts)} verdicts for {len(indices)} completions"
        for index in indices:
            self._say(self.name, index, Failure(message, message))

    def _warn(self, error: Exception, count: int) -> None:
        log.warning("verifier %s: a batch of %d failed (%r), asking one by one", self.name, count, error)


def checked(verdict: object) -> Said:
    """The verdict as plain data if it is one, down to its evidence; else what is wrong with it.

    An exception in the place of a verdict is that pair's failure (`rlvr.remote.together` gives them).
    """
    if isinstance(verdict, Exception):
        return Failure.of(verdict)
    try:
        return verdict_of(verdict)
    except Exception as error:
        return Failure.of(error)


def verdict_of(verdict: object) -> Scored:
    """The verdict as plain data. TypeError or ValueError where it is none, or its score, reason or evidence are none: a
    subclass may have skipped the checks of Verdict, or a score been set past them."""
    if not isinstance(verdict, Verdict):
        raise TypeError(f"gave {type(verdict).__name__}, not a Verdict")
    score, reason = verdict.score, verdict.reason  # once: they may be computed
    if not isinstance(reason, Reason) or reason is Reason.ERROR:
        raise ValueError(f"gave the reason {reason!r}; give another Reason, or raise where the work failed")
    Verdict(score, reason)
    score = None if score is None else float(score)
    return Scored(score, str(reason), _evidence(verdict.evidence) if verdict.evidence else "[]")


def _evidence(items: Sequence[Evidence]) -> str:
    return f"[{', '.join(map(_object, items))}]"


def _object(item: Evidence) -> str:
    if not isinstance(item, Evidence) or not isinstance(item.supports, bool):
        raise TypeError(f"gave {item!r:.100} as evidence, not an Evidence with supports True or False")
    texts = (item.source, item.record, item.statement)
    source, record, statement = map(_encode, texts)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"gave {item!r:.100} as evidence; its source, record and statement must be text")
    supports = "true" if item.supports else "false"
    # Written out: json takes four times as long over a dictionary, and every verdict has its evidence.
    return f'{{"source": {source}, "record": {record}, "statement": {statement}, "supports": {supports}}}'
