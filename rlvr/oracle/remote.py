"""`remote`: a model behind an HTTP endpoint, asked in batches, its answers kept on disk, with a deadline.

    Remote("http://localhost:8000/predict").probabilities(questions)

A request is {"pairs": [{"task", "context", "perturbation", "readout"}, ...]}; the reply {"probabilities": [...]} holds,
in the same order, label -> probability or null, which abstains. Only genes and cells are sent, never the truth. What
came back is kept under `RLVR_CACHE` for each pair, so that a pair is asked once, in whatever batch it comes; a model
that answers anew needs another `release`. Connections and retries are those of rlvr.remote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import httpx

from rlvr.files import cache_dir
from rlvr.oracle.base import KEY, LABELS, Belief, Oracle, key
from rlvr.remote import Cache, Client, digest
from rlvr.types import Error, Question

TOLERANCE = 0.01  # how far from 1 the probabilities of a pair may sum


@dataclass(frozen=True)
class Remote(Oracle):
    """url: of the endpoint. batch: pairs in one request. deadline: seconds for all requests of one call together.
    release: of the model. Errors: no reply in time, a refusal, a reply of another form; nothing of such a batch is
    kept."""

    url: str
    release: str = "1"
    batch: int = 64
    deadline: float = 60.0

    name: ClassVar[str] = "remote"
    says: ClassVar[str] = "the service says"

    @property
    def version(self) -> str:
        return self.release

    def probabilities(self, questions: Sequence[Question]) -> list[Belief | None]:
        cache = Cache(cache_dir() / "oracle")
        pairs = [_pair(question) for question in questions]
        places = [digest({"url": self.url, "release": self.release, "pair": pair}) for pair in pairs]
        held: dict[str, Belief | None] = {}
        for place in dict.fromkeys(places):
            if (kept := cache.read(place)) is not None:
                held[place] = kept["reply"]
        missing = {place: pair for place, pair in zip(places, pairs, strict=True) if place not in held}
        for place, belief in zip(missing, asyncio.run(self._ask(list(missing.values()))), strict=True):
            held[place] = belief
            cache.write(place, {"reply": belief})
        return [held[place] for place in places]

    def why(self, question: Question) -> str:
        return "the service does not know"

    async def _ask(self, pairs: Sequence[Mapping[str, str]]) -> list[Belief | None]:
        batches = [pairs[start : start + self.batch] for start in range(0, len(pairs), self.batch)]
        try:
            async with asyncio.timeout(self.deadline), Client() as client:
                replies = await asyncio.gather(*(client.send(self.url, {"pairs": batch}) for batch in batches))
        except TimeoutError as error:
            raise Error(
                f"oracle {self.url}: {len(pairs)} pairs took longer than {self.deadline:g} s; raise the deadline"
            ) from error
        except (httpx.HTTPError, ValueError) as error:
            raise Error(f"oracle {self.url}: {error or type(error).__name__}; is the service up?") from error
        return [belief for batch, reply in zip(batches, replies, strict=True) for belief in self._beliefs(batch, reply)]

    def _beliefs(self, batch: Sequence[Mapping[str, str]], reply: Any) -> list[Belief | None]:
        found = reply.get("probabilities") if isinstance(reply, dict) else None
        if not isinstance(found, list) or len(found) != len(batch):
            raise Error(
                f"oracle {self.url}: the reply holds no list probabilities of length {len(batch)}; mend the service"
            )
        for pair, belief in zip(batch, found, strict=True):
            if belief is not None and not _sound(belief, LABELS[pair["task"]]):
                raise Error(
                    f"oracle {self.url}: {pair['perturbation']}, {pair['readout']}: {str(belief)[:80]} does not give "
                    f"each of {', '.join(LABELS[pair['task']])} a probability, with a sum of 1; mend the service"
                )
        return found


def _pair(question: Question) -> dict[str, str]:
    if question.task not in LABELS:
        raise Error(f"oracle: {question.task} has no probabilities; ask about {', '.join(LABELS)}")
    return {"task": question.task, **dict(zip(KEY, key(question), strict=True))}


def _sound(belief: Any, labels: Sequence[str]) -> bool:
    if not isinstance(belief, dict) or set(belief) != set(labels):
        return False
    values = list(belief.values())
    if not all(isinstance(value, int | float) and isfinite(value) and 0 <= value <= 1 for value in values):
        return False
    return bool(abs(sum(values) - 1.0) <= TOLERANCE)
