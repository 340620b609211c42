"""Clients and persons: they ask as stock libraries do (retries, redirects, ``Retry-After``), and hang up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from tests.simulation.call import Answer, Call
from tests.simulation.schedule import Ask, Scale
from tests.simulation.timeline import Process

RETRIES = {"python": 2, "js": 2, "curl": 0, "aiohttp": 0}
REDIRECTS = {"python": 20, "js": 20, "curl": 20, "aiohttp": 10}  # in one try
RETRY_S = 1.0  # of a person
CHAT = "/v1/chat/completions"

_SAYS = {
    "python": {b"user-agent": b"OpenAI/Python", b"x-stainless-lang": b"python"},
    "js": {b"user-agent": b"OpenAI/JS", b"x-stainless-lang": b"js"},
    "curl": {b"user-agent": b"curl/8"},
    "aiohttp": {b"user-agent": b"Python/3.12 aiohttp/3.11"},
}


@dataclass(eq=False)
class Client:
    """One question and what came of it; ``ending`` is None while it is open."""

    ask: Ask
    began_at: float
    ending: str | None = None
    ended_at: float = 0.0
    tried: list[str] = field(default_factory=list)


@dataclass
class People:
    """All clients share one process that never dies. ``send`` is the load balancer's."""

    process: Process
    key: str
    send: Callable[[Call], None]
    broken: Callable[[Client, Answer, Call], None]  # an answer without a reason
    told: Callable[[Client, str], None]  # an answer with one
    sent_on: Callable[[Client, float], None]
    streamed: Callable[[Client, Answer], None]  # a whole one
    clients: list[Client] = field(default_factory=list)
    _asking: list[asyncio.Task[None]] = field(default_factory=list)

    def ask(self, ask: Ask) -> Client:
        client = Client(ask, self._now)
        self.clients.append(client)
        self._asking.append(self.process.spawn(self._ask(client)))
        return client

    def all_hang_up(self) -> None:
        for task in self._asking:
            task.cancel()

    def scale(self, scale: Scale) -> None:
        self.process.spawn(self._scale(scale))

    async def _ask(self, client: Client) -> None:
        try:
            if client.ask.patience_s is None:
                client.ending = await self._answered(client)
            else:
                async with asyncio.timeout(client.ask.patience_s):
                    client.ending = await self._answered(client)
        except (TimeoutError, asyncio.CancelledError):
            client.ending = "hung up"
        client.ended_at = self._now
        if client.ending.startswith("told "):
            self.told(client, client.ending[5:])

    async def _answered(self, client: Client) -> str:
        """The first try and its retries, each with its redirects."""
        for retries in range(RETRIES[client.ask.manner] + 1):
            call, answer = await self._tried(client, retries)
            ending, again = self._judged(client, answer, call)
            if not again:
                return ending
            if retries < RETRIES[client.ask.manner]:
                await asyncio.sleep(_pause_s(answer, retries))
        return ending

    async def _tried(self, client: Client, retries: int) -> tuple[Call, Answer]:
        query = b""
        for _ in range(REDIRECTS[client.ask.manner] + 1):
            call = self._call(client, retries, query)
            began_at = self._now
            self.send(call)
            try:
                answer = await asyncio.shield(call.answer)
            except asyncio.CancelledError:
                call.hang_up()
                raise
            client.tried.append(f"{self._now:.0f}:{answer.by}:{answer.status}")
            if answer.status != 307:
                return call, answer
            self.sent_on(client, began_at)
            query = answer.headers[b"location"].partition(b"?")[2]
        return call, answer

    def _judged(self, client: Client, answer: Answer, call: Call) -> tuple[str, bool]:
        """What the client makes of it, and whether its library would try again."""
        ask = client.ask
        if answer.status == 200 and answer.whole:
            return self._read(client, answer, call), False
        if answer.by == "edge" or not answer.whole:
            if answer.status != 200 or ask.stream or answer.body.strip():
                self.broken(client, answer, call)  # but where cutting the padding is how a library is told
            # Where the head is there, only Python's libraries ask again, and no library does so for a stream.
            return "cut off", answer.status != 200 or (not ask.stream and ask.manner == "python")
        code = _code(answer.body)
        if answer.status == 307:
            return "told redirects", True
        if code == "engine_lost" or answer.status == 500:
            self.broken(client, answer, call)
        told = answer.headers.get(b"x-should-retry")
        return f"told {code}", told == b"true" or (told is None and answer.status in (408, 409, 429, 500, 502, 503))

    def _read(self, client: Client, answer: Answer, call: Call) -> str:
        """A whole 200: the engine's answer, or an error after the head was gone."""
        if client.ask.stream and b"[DONE]" in answer.body and b'"error"' not in answer.body:
            self.streamed(client, answer)
            return "answered"
        if not client.ask.stream and b'"choices"' in answer.body:
            return "answered"
        code = _code(answer.body)
        if code in ("restarting", "engine_lost", "None"):
            self.broken(client, answer, call)
        return f"told {code}"

    def _call(self, client: Client, retries: int, query: bytes) -> Call:
        ask = client.ask
        headers = {
            b"authorization": f"Bearer {self.key}".encode(),
            b"content-type": b"application/json",
            b"x-stainless-retry-count": str(min(retries, 99)).encode(),
            **_SAYS[ask.manner],
        }
        if ask.wait_s is not None:
            headers[b"x-diogenes-wait"] = str(ask.wait_s).encode()
        words = [{"role": "user", "content": str(ask.seconds)}]
        body = orjson.dumps({"model": ask.model, "stream": ask.stream, "messages": words})
        return Call(self.process, "POST", CHAT, headers, body, upload_s=ask.upload_s, query=query)

    async def _scale(self, scale: Scale) -> None:
        headers = {b"authorization": f"Bearer {self.key}".encode(), b"content-type": b"application/json"}
        body = orjson.dumps({"model": scale.model, "desired": scale.desired})
        for _ in range(5):
            call = Call(self.process, "POST", "/api/cluster/scale", headers, body)
            self.send(call)
            answer = await call.answer
            if answer.status in (202, 402):  # a budget that forbids it does so again
                return
            await asyncio.sleep(RETRY_S)

    @property
    def _now(self) -> float:
        return self.process.timeline.now


def _pause_s(answer: Answer, retries: int) -> float:
    """As the SDKs: what they are told, up to a minute, or half a second, one, two."""
    told_s = float(answer.headers.get(b"retry-after", b"0"))
    return told_s if 0 < told_s <= 60 else 0.5 * 2**retries


def _code(body: bytes) -> str:
    """Of an error, wherever it stands: alone, after padding, or as an event."""
    start = body.rfind(b'{"error"')
    if start < 0:
        return "None"
    try:
        return str(json.JSONDecoder().raw_decode(body[start:].decode())[0]["error"].get("code"))
    except ValueError:
        return "None"
