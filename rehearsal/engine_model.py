"""Where the stand-in engine's model would be: deterministic words, one by one, at a steady pace."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from itertools import count

from rehearsal.engine_dialects import Ending, Usage

_TEXT = (
    "This is a stand-in engine, not a model. Your prompt had {} words. It goes on like this until it is long enough:"
)
_FAULT_AFTER = 3  # tokens, so that the answer is well under way
_DRAIN_POLL_S = 0.02
_DIRECTIVE = re.compile(r"\[\[([^\]]*)\]\]")


@dataclass(frozen=True)
class Options:
    """How the engine was started."""

    repository: str
    names: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 8000
    pooling: bool = False  # embeds, and generates nothing
    max_model_len: int = 40960
    max_num_seqs: int = 256  # more requests than these wait
    always_usage: bool = False
    tool_calls: bool = False  # accepts tools; never calls one
    shutdown_timeout_s: float = 0.0  # what answers may still take after a SIGTERM
    load_s: float = 2.0
    boot_failure: str | None = None
    tokens: int = 24
    token_s: float = 0.02


class Broken(Exception):
    """The answer cannot go on."""


@dataclass(frozen=True)
class Plan:
    """What one prompt is answered with."""

    words: int
    tokens: int
    gap_s: float
    cut: bool
    fault: str  # "", "crash", "error" or "hang"
    said: int = 0  # tokens of it that the request brings along

    @property
    def prompt_tokens(self) -> int:
        return self.words + 7 + self.said  # a chat template adds some


class Model:
    """Stands where the model would: takes a slot, makes tokens one by one, counts who runs and who waits."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.running = 0
        self.waiting = 0
        self.prompt_tokens = 0  # so far
        self.generated_tokens = 0
        self.draining = False  # takes no new request
        self._hung = False
        self._slots = asyncio.Semaphore(options.max_num_seqs)
        self._stopped = asyncio.Event()
        self._numbers = count(1)

    def next_id(self) -> str:
        return f"{next(self._numbers):016x}"

    def stop(self) -> None:
        """Break off every answer. Safe in a signal handler of the loop's own thread."""
        self._stopped.set()

    async def drain(self) -> None:
        """Take no new request, and let what runs end within the time that was set."""
        self.draining = True
        try:
            async with asyncio.timeout(self.options.shutdown_timeout_s):
                await self._idle()
        except TimeoutError:
            return

    async def _idle(self) -> None:
        while self.running + self.waiting:  # noqa: ASYNC110 - both change at many places, and this ends the process
            await asyncio.sleep(_DRAIN_POLL_S)

    def plan(self, prompt: str, limit: int | None, *, said: int = 0) -> Plan:
        directives = " ".join(_DIRECTIVE.findall(prompt)).split()
        values = dict(word.split("=", 1) for word in directives if "=" in word)
        tokens = max(int(values.get("tokens", self.options.tokens)) - said, 0)
        return Plan(
            words=len(_DIRECTIVE.sub(" ", prompt).split()),
            tokens=tokens if limit is None else min(tokens, limit),
            gap_s=float(values.get("gap", self.options.token_s)),
            cut=limit is not None and limit < tokens,
            fault=next((word for word in directives if word in ("crash", "error", "hang")), ""),
            said=said,
        )

    async def tokens(self, plan: Plan) -> AsyncGenerator[str, None]:
        """The answer's tokens, one word each. Raises Broken. Stops counting when it is closed."""
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            words = _TEXT.format(plan.words).split()
            for number in range(plan.said, plan.said + plan.tokens):
                if number == _FAULT_AFTER:
                    self._fault(plan.fault)
                await self._pause(plan.gap_s)
                if number == plan.said:  # as vLLM: a prompt counts when it has been read, which its first token shows
                    self.prompt_tokens += plan.prompt_tokens
                self.generated_tokens += 1
                yield words[0] if number == 0 else f" {words[number % len(words)]}"
        finally:
            self.running -= 1
            self._slots.release()

    def ending(self, plan: Plan, said: Sequence[str]) -> Ending:
        return Ending("".join(said), Usage(plan.prompt_tokens, len(said)), plan.cut)

    def _fault(self, fault: str) -> None:
        if fault == "crash":
            os._exit(1)
        if fault == "error":
            raise Broken("EngineCore encountered an issue. See stack trace (above) for the root cause.")
        self._hung = self._hung or fault == "hang"

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), None if self._hung else seconds)
        except TimeoutError:
            return
        raise Broken("EngineCore encountered an issue. See stack trace (above) for the root cause.")
