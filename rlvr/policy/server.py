"""The policy behind an OpenAI-compatible server: `vllm serve`, or a hosted model.

    rlvr evaluate RECIPE --server http://localhost:8000/v1 --model NAME --out DIR
    rlvr evaluate RECIPE --server https://api.example.org/v1 --model NAME --key-env EXAMPLE_KEY --out DIR

A server that tokenizes (`/tokenize`, as vLLM's does) is given token ids, and is asked at the forced answer slot for
the log-probabilities of the allowed words: the same tokens as with vLLM in this process. Any other is asked through
its chat endpoint, and gives answers alone. Probabilities that a server does not give are left out, never made up.

A request that the server refuses (400 and the like: a filter, a prompt that is too long) costs its own row, which
counts as wrong and says why; where it refuses all of them, that is an error. Where the server breaks down, what it has
answered until then is kept.

Replies are not kept on disk: behind one name there may be another model tomorrow.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx
import numpy as np

from rlvr.completions import completion_text, is_finished, turn_text
from rlvr.policy.slot import Answered, Broken, Progress, read_slot, shares, slot_texts, thought_end
from rlvr.prompts import Messages
from rlvr.remote import Client, Unusable, is_passing
from rlvr.types import Error

log = logging.getLogger(__name__)
T = TypeVar("T")
REFUSALS = {400, 409, 413, 415, 422, 451}  # of one request; others say that the address, the key or the server is wrong
PATIENCE = 8  # completions without a word's log-probability before a server is taken to give none


@dataclass(frozen=True)
class Server:
    """Where a model is served. `model`: its name there. `key_env`: the environment variable that holds the key, which
    is sent to this server and written nowhere. `timeout`: seconds of one try; 429, 5xx and time-outs are tried
    `attempts` times. `length_key`: how it calls the most tokens of a completion (some hosted models want
    max_completion_tokens). `sends_temperature`: False for models that refuse one."""

    url: str
    model: str
    key_env: str | None = None
    concurrency: int = 32
    timeout: float = 600.0
    attempts: int = 5
    length_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    sends_temperature: bool = True

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Error(f"--server {self.url!r} is no address; write it as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            raise Error("--server holds a name, a key or a query; put the key into a variable and name it: --key-env")
        if self.key_env and not os.environ.get(self.key_env):
            raise Error(f"--key-env {self.key_env}: that environment variable is not set")

    def client(self) -> Client:
        """Opens connections, for one event loop."""
        key = {"Authorization": f"Bearer {os.environ[self.key_env]}"} if self.key_env else {}
        return Client(concurrency=self.concurrency, attempts=self.attempts, timeout=self.timeout, headers=key)

    def at(self, endpoint: str) -> str:
        """`chat/completions` and the like stand below /v1, vLLM's `tokenize` beside it."""
        base = self.url.rstrip("/")
        return f"{base.removesuffix('/v1')}/{endpoint}" if endpoint == "tokenize" else f"{base}/{endpoint}"


class ServerSampler:
    """Asks a server, one request per completion and `concurrency` at a time."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.tokenizes: bool | None = None  # not known yet
        self.has_shares: bool | None = None  # not known yet; False once it has failed to give some PATIENCE times
        self._without = 0

    def answer(
        self,
        prompts: Sequence[Messages],
        answers: Mapping[str, str],
        max_tokens: int,
        progress: Progress,
        *,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> list[Answered]:
        """See `Sampler`. Errors: a server that still fails after the attempts (Broken, with what it has answered), or
        that refuses every request."""
        seeds = np.random.default_rng(seed).integers(2**31, size=len(prompts) * samples).tolist()
        drawn = [{"seed": own} if temperature else {} for own in seeds]
        options = {"model": self.server.model, self.server.length_key: max_tokens}
        if self.server.sends_temperature:
            options |= {"temperature": temperature, "top_p": 1.0}
        elif temperature != 1.0:
            log.warning("%s is told no temperature: it samples at its own", self.server.url)
        rows = [messages for messages in prompts for _ in range(samples)]
        asked = [(messages, {**options, **own}) for messages, own in zip(rows, drawn, strict=True)]
        return asyncio.run(self._all(asked, answers, progress))

    async def _all(
        self, asked: Sequence[tuple[Messages, dict[str, Any]]], answers: Mapping[str, str], progress: Progress
    ) -> list[Answered]:
        async with self.server.client() as client:
            service = _Service(self.server, client)
            if self.tokenizes is None:
                self.tokenizes = await service.tokenizes()
                if not self.tokenizes and answers:
                    log.warning("%s cannot be asked at a forced answer slot: answers only", self.server.url)
            if not self.tokenizes:
                return await self._whole(_counted(service.chat(*each), progress) for each in asked)
            slot = await service.slot(answers)
            return await self._whole(_counted(self._at_slot(service, slot, *each), progress) for each in asked)

    async def _whole(self, answers: Iterable[Awaitable[Answered]]) -> list[Answered]:
        """What was answered. A refused request is a row without a completion; anything else that fails is the end."""
        tasks = [asyncio.ensure_future(answer) for answer in answers]
        try:
            pending = set(tasks)
            while pending and not any(map(_fatal, tasks)):
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
        given: list[Answered] = []
        for task in tasks:
            error = None if task.cancelled() or not task.done() else task.exception()
            if not task.done() or task.cancelled() or (error and not isinstance(error, _Refused)):
                raise Broken(str(next(filter(None, map(_fatal, tasks)))), given)
            given.append(Answered("", False, {}, None, str(error)) if error else task.result())
        refused = [one.refused for one in given if one.refused]
        if refused and len(refused) == len(given):
            raise Error(f"{refused[0]} (and so for all {len(given)} requests)")
        return given

    async def _at_slot(
        self, service: _Service, slot: tuple[list[int], dict[int, str]], messages: Messages, options: dict[str, Any]
    ) -> Answered:
        """One completion, and then the slot after its thought."""
        slot_ids, words = slot
        prompt = await service.tokens({"messages": messages, "add_generation_prompt": True})
        wanted = bool(words) and self.has_shares is not False
        answered, thought = await service.complete(prompt, options, wanted)
        if not wanted:
            return answered
        found = None if thought is None else await service.at_slot([*prompt, *thought, *slot_ids], list(words))
        if found is not None:
            self.has_shares = True
            return replace(answered, probabilities=shares(words, found))
        if not self._without:
            log.warning("%s gives no log-probabilities of the answer words: answers only, there", self.server.url)
        self._without += 1
        if self.has_shares is None and self._without >= PATIENCE:
            self.has_shares = False
        return answered


class _Service:
    """What is sent to a server and read from its replies."""

    def __init__(self, server: Server, client: Client) -> None:
        self.server, self.client = server, client

    async def tokenizes(self) -> bool:
        """Whether it turns messages into token ids, as vLLM's does."""
        request = {"model": self.server.model, "messages": [{"role": "user", "content": "-"}]}
        try:
            reply = await self.client.send(self.server.at("tokenize"), request)
        except httpx.HTTPStatusError as error:
            # A hosted service may answer anything to a path that it has not; what matters shows in the next request.
            if error.response.status_code == 401 or is_passing(error):
                self._refuse(error, "tokenize")
            return False
        except ValueError:  # no JSON
            return False
        except httpx.TransportError as error:
            self._refuse(error, "tokenize")
        return isinstance(reply, dict) and bool(_ids(reply.get("tokens")))

    async def slot(self, answers: Mapping[str, str]) -> tuple[list[int], dict[int, str]]:
        """As `read_slot`, by the server's tokenizer."""
        if not answers:
            return [], {}
        asked = [{"prompt": text, "add_special_tokens": False} for text in slot_texts(answers)]
        return read_slot([await self.tokens(request) for request in asked], answers)

    async def tokens(self, request: Mapping[str, Any]) -> list[int]:
        reply = await self._send("tokenize", request)
        found = _ids(reply.get("tokens"))
        return self._strange("tokenize", "tokens") if found is None else found

    async def complete(
        self, prompt: list[int], options: Mapping[str, Any], wants_thought: bool
    ) -> tuple[Answered, list[int] | None]:
        """A completion of token ids; and the token ids of its thought, where it is wanted and told."""
        own = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}  # not what the server has as its defaults
        told = {"logprobs": 0, "return_token_ids": True} if wants_thought else {}
        reply = await self._send("completions", {"prompt": prompt, **options, **own, **told})
        choice = self._choice("completions", reply)
        if not isinstance(choice.get("text"), str):
            self._strange("completions", "choices[0].text")
        answered = _answered(choice["text"], choice, reply)
        ids, pieces = _ids(choice.get("token_ids")), (choice.get("logprobs") or {}).get("tokens")
        if not wants_thought or ids is None or not isinstance(pieces, list) or len(pieces) != len(ids):
            return answered, None
        end = thought_end(choice["text"])
        # As in this process: a thought that was cut short goes without its last token.
        limit = len(ids) - (not answered.finished)
        if end is None:
            return answered, ids[:limit]
        reach = np.cumsum([len(str(piece)) for piece in pieces])  # where each token ends, in characters
        return answered, ids[: min(int(np.searchsorted(reach, end, side="right")), limit)]

    async def at_slot(self, prompt: list[int], words: list[int]) -> dict[int, float] | None:
        """The log-probability of each word as the next token; None where they are not all given."""
        request = {
            "prompt": prompt,
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": len(words),
            "logprob_token_ids": words,
            "return_tokens_as_token_ids": True,
        }
        choice = self._choice("completions", await self._send("completions", request))
        top = (choice.get("logprobs") or {}).get("top_logprobs")
        first = top[0] if isinstance(top, list) and top and isinstance(top[0], dict) else {}
        found = {word: first.get(f"token_id:{word}") for word in words}
        return found if all(isinstance(v, int | float) and v <= 0 for v in found.values()) else None  # type: ignore[return-value]

    async def chat(self, messages: Messages, options: Mapping[str, Any]) -> Answered:
        reply = await self._send("chat/completions", {"messages": messages, **options})
        choice = self._choice("chat/completions", reply)
        message = choice.get("message")
        if not isinstance(message, dict) or not isinstance(message.get("content"), str | list | None):
            self._strange("chat/completions", "choices[0].message.content")
        return _answered(turn_text(message), choice, reply)

    async def _send(self, endpoint: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            asked = {"model": self.server.model, **request}
            reply = await self.client.send(self.server.at(endpoint), asked, _refuse_errors)
        except (httpx.HTTPError, ValueError, Unusable) as error:
            self._refuse(error, endpoint)
        return reply if isinstance(reply, dict) else self._strange(endpoint, "object")

    def _choice(self, endpoint: str, reply: Mapping[str, Any]) -> dict[str, Any]:
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            self._strange(endpoint, "choices[0]")
        return choices[0]

    def _strange(self, endpoint: str, lacks: str) -> NoReturn:
        raise Error(f"server {self.server.at(endpoint)}: its reply has no {lacks}; it is not OpenAI-compatible")

    def _refuse(self, error: Exception, endpoint: str) -> NoReturn:
        """One line for what went wrong; never with the key, which is in no message."""
        where = f"server {self.server.at(endpoint)}"
        if isinstance(error, httpx.HTTPStatusError):
            status, said = error.response.status_code, f": {error.response.text[:200]!r}" if error.response.text else ""
            if status in (401, 403):
                key = f"the key in {self.server.key_env}" if self.server.key_env else "a request without a key"
                raise Error(f"{where} refuses {key} ({status}); name the variable that holds it with --key-env")
            tries = f" {self.server.attempts} times" if status == 429 or status >= 500 else ""
            message = f"{where} answered {status}{tries}{said}"
            raise (_Refused if status in REFUSALS else Error)(message) from error
        if isinstance(error, Unusable):
            raise _Refused(f"{where} answered 200, {self.server.attempts} times, and {error}") from error
        if isinstance(error, httpx.TimeoutException):
            raise Error(
                f"{where} gave no answer within {self.server.timeout:g} s, {self.server.attempts} times"
            ) from error
        if isinstance(error, httpx.HTTPError):
            raise Error(f"{where} cannot be reached: {error or type(error).__name__}") from error
        raise Error(f"{where}: {' '.join(str(error).split())[:200]}") from error


class _Refused(Error):
    """The server would not answer this one request."""


def _fatal(task: asyncio.Future[Answered]) -> BaseException | None:
    """What ends the whole call; None for an answer, or a request that was refused."""
    error = task.exception() if task.done() and not task.cancelled() else None
    return None if isinstance(error, _Refused) else error


def _refuse_errors(reply: Any) -> None:
    """Unusable for a body that reports an error under status 200, as some gateways do."""
    if isinstance(reply, dict) and reply.get("error") and not reply.get("choices"):
        raise Unusable(f"spoke of an error: {' '.join(str(reply['error']).split())[:200]}")


def _answered(text: str, choice: Mapping[str, Any], reply: Mapping[str, Any]) -> Answered:
    count = (reply.get("usage") or {}).get("completion_tokens")
    return Answered(
        completion_text(text), is_finished(choice.get("finish_reason")), {}, count if isinstance(count, int) else None
    )


def _ids(tokens: Any) -> list[int] | None:
    return tokens if isinstance(tokens, list) and all(isinstance(token, int) for token in tokens) else None


async def _counted(answer: Awaitable[T], progress: Progress) -> T:
    found = await answer
    progress(1)
    return found
