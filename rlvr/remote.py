"""What a verifier needs that asks a service: bounded concurrency, retries, and replies kept on disk.

    @dataclass(frozen=True)
    class Judge(RemoteVerifier):
        name: ClassVar[str] = "judge"
        url: str = "http://localhost:8000/judge"

        async def averify_batch(self, pairs):
            async with Client(self) as client:
                return await together(self._ask(client, *pair) for pair in pairs)

        async def _ask(self, client, question, completion):
            reply = await client.post(self.url, {"gene": question.fields["gene"], "text": completion.thought})
            return Verdict(float(reply["score"]), Reason.BELIEF)

A `Client` lives for one batch: connections belong to an event loop, and each batch has its own. Replies are kept
under `RLVR_CACHE` by what was asked, so the same request is sent once, in this run or the next; a service whose
replies change needs another `version` of its verifier.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NoReturn, cast

import httpx
import tenacity

from rlvr.files import cache_dir, write_atomically
from rlvr.types import Completion, Error, Question, Verdict
from rlvr.verifier import Pair, Verifier

log = logging.getLogger(__name__)

LONGEST_WAIT = 60.0  # seconds between two attempts, whatever the service asks for
_backoff = tenacity.wait_random_exponential(multiplier=0.5, max=LONGEST_WAIT)


@dataclass(frozen=True)
class RemoteVerifier(Verifier):
    """A verifier that is written as `averify_batch` alone."""

    network: ClassVar[bool] = True

    @abstractmethod
    async def averify_batch(self, pairs: Sequence[Pair]) -> Sequence[Verdict]:
        """The verdicts in the order of `pairs`, best through `together`."""

    def verify(self, question: Question, completion: Completion) -> Verdict:
        (verdict,) = asyncio.run(self.averify_batch([(question, completion)]))
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


class Unusable(Exception):
    """A reply with status 200 that says of itself that the request has failed."""


class Client:
    """Asks a service for one verifier; use as `async with Client(self) as client`. Without a verifier nothing is
    kept: `send` asks anew each time.

    concurrency: requests in flight at most. attempts: tries of a request that ends in 429, 5xx, a time-out or a
    broken connection; the waits between them double, with jitter, or are what Retry-After says. timeout: seconds of
    one try. headers: sent along (a key, say), never kept.
    """

    def __init__(
        self,
        verifier: Verifier | None = None,
        *,
        concurrency: int = 8,
        attempts: int = 5,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._asker: dict[str, Any] | None = None
        if verifier:
            options = dataclasses.asdict(verifier)
            self._asker = {"verifier": verifier.name, "version": verifier.version, "options": options}
        self._cache = Cache(cache_dir() / "remote")
        self._slots = asyncio.Semaphore(concurrency)
        self._attempts = attempts
        limits = httpx.Limits(max_connections=concurrency)
        self._http = httpx.AsyncClient(timeout=timeout, headers=headers, limits=limits)
        self._asked: dict[str, asyncio.Task[Any]] = {}

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for task in self._asked.values():
            task.cancel()
        await self._http.aclose()

    async def post(self, url: str, request: Any) -> Any:
        """The JSON reply to a JSON request: from disk where it was asked before, else from the service.

        Raises httpx.HTTPStatusError, httpx.TransportError or ValueError (no JSON) when the attempts are used up or
        another try would not help; what is raised is never kept.
        """
        if self._asker is None:
            raise ValueError("replies are kept for a verifier: name it, or use send()")
        key = digest({**self._asker, "url": url, "request": request})
        if key not in self._asked:  # completions of a group are often the same
            self._asked[key] = asyncio.create_task(self._reply(key, url, request))
        return await self._asked[key]

    async def _reply(self, key: str, url: str, request: Any) -> Any:
        kept = self._cache.read(key)
        if kept is not None:
            return kept["reply"]
        reply = await self.send(url, request)
        self._cache.write(key, {"reply": reply})
        return reply

    async def send(self, url: str, request: Any, check: Callable[[Any], None] = lambda reply: None) -> Any:
        """The JSON reply of the service itself; nothing is looked up and nothing kept. check: raises Unusable for a
        reply that another try may mend. Raises as `post` does, and Unusable."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(is_passing),
            wait=wait,
            stop=tenacity.stop_after_attempt(self._attempts),
            before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
            reraise=True,
        )
        reply: Any = await retrying(self._send, url, request, check)
        return reply

    async def _send(self, url: str, request: Any, check: Callable[[Any], None]) -> Any:
        async with self._slots:
            response = await self._http.post(url, json=request)
        response.raise_for_status()
        try:
            reply = json.loads(response.content, parse_constant=_refuse)
        except ValueError as error:
            raise ValueError(f"{url} gave no JSON but {response.text[:80]!r}: {error}") from error
        check(reply)
        return reply


async def together(verdicts: Iterable[Awaitable[Verdict]]) -> Sequence[Verdict]:
    """Await all verdicts of a batch at once. One that fails stands as its exception in the place of its verdict:
    the reward layer makes an error row of it, and the others count."""
    return cast(Sequence[Verdict], await asyncio.gather(*verdicts, return_exceptions=True))


def is_passing(error: BaseException) -> bool:
    """Whether trying again may help: 429, 5xx, a time-out, a broken connection, a reply that speaks of an error."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, httpx.TimeoutException | httpx.NetworkError | httpx.RemoteProtocolError | Unusable)


def wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: what Retry-After says, else exponential back-off with full jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = None
    if isinstance(error, httpx.HTTPStatusError):
        asked = retry_after(error.response.headers.get("retry-after", ""))
    return _backoff(state) if asked is None else min(asked, LONGEST_WAIT)


def retry_after(header: str) -> float | None:
    """Seconds, from seconds or an HTTP date (RFC 9110, 10.2.3); None where it is neither."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def digest(asked: Any) -> str:
    """sha256 of the canonical JSON of what is asked: equal for equal requests, whatever the order of their keys."""
    try:
        text = json.dumps(asked, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Error(f"a remote request and the options of its verifier must be JSON: {error}") from error
    return sha256(text.encode()).hexdigest()


class Cache:
    """JSON objects on disk, by the hash of what they answer. Safe between processes: files are written whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    def read(self, key: str) -> dict[str, Any] | None:
        """What was kept; None where nothing was, or it can no longer be read."""
        path = self._path(key)
        try:
            kept = json.loads(path.read_bytes())
            if not isinstance(kept, dict) or "reply" not in kept:
                raise ValueError("holds no reply")
            return kept
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s cannot be used and is asked for again: %s", path, error)
            return None

    def write(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep it; a full disk costs the entry, not the verdict."""
        try:
            write_atomically(self._path(key), json.dumps(value).encode())
        except (Error, OSError) as error:
            log.warning("a reply was not kept: %s", error)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
