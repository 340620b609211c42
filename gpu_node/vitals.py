"""Whether an engine that got ready still works, by what it answers and by what it counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpu_node import crash
from gpu_node.engine import Line, Load, Proof
from gpu_node.progress import ProgressWatch
from gpu_node.protocol import Failure

log = logging.getLogger("diogenes.node")


class EngineOutput(Protocol):
    @property
    def tail(self) -> Sequence[str]: ...

    def take(self) -> Sequence[Line]: ...


class OpenProbe(Protocol):
    """See engine.Probe."""

    def answer(self) -> Proof | None: ...


class RunningEngine(Protocol):
    """See engine.Engine."""

    @property
    def output(self) -> EngineOutput: ...

    @property
    def starved(self) -> bool: ...

    def exit_code(self) -> int | None: ...

    def healthy(self) -> bool: ...

    def load(self) -> Load | None: ...

    def probe(self, limit_s: float) -> OpenProbe: ...

    def stop(self, grace_s: float) -> None: ...


@dataclass(frozen=True)
class VitalLimits:
    """Seconds; see settings.NodeSettings."""

    unresponsive_s: float
    suspect_after_s: float  # at work, and no token counted
    probe_s: float  # and no token made that was asked for, nor any other counted


class Vitals:
    """Watches one engine from when it got ready."""

    def __init__(self, engine: RunningEngine, *, clock: Callable[[], float], limits: VitalLimits) -> None:
        self._engine = engine
        self._clock = clock
        self._limits = limits
        self._answered_at = clock()
        self._progress = ProgressWatch(suspect_after_s=limits.suspect_after_s)
        self._probe: OpenProbe | None = None  # the last one, while it is suspected
        self._hung_at = 0.0  # where nothing clears it before
        self.load: Load | None = None  # as last told; None: it did not answer

    @property
    def busy(self) -> bool:
        """Has it requests? One that does not tell may well be at work; `check` bounds how long that is believed."""
        return self.load is None or self.load.running + self.load.waiting > 0

    def check(self) -> Failure | None:
        """One look; why the engine is given up, where it is."""
        now = self._clock()
        self.load = self._engine.load()
        if self.load is not None:
            self._answered_at = now
        elif now - self._answered_at >= self._limits.unresponsive_s:
            return crash.UNRESPONSIVE
        return self._question(now)

    def _question(self, now: float) -> Failure | None:
        """Is it at work, and gets nowhere? A token that it counts clears it at any time, whatever the probe says: that
        may well stand behind long prompts, which count only when they are read."""
        if self.load is None:
            return None  # there is nothing to judge by; `check` bounds that
        if not self._progress.observe(at_work=self.busy, tokens=self.load.tokens, now=now):
            self._clear()
        elif self._probe is None:
            log.warning("engine suspected", extra={"running": self.load.running, "waiting": self.load.waiting})
            self._hung_at = now + self._limits.probe_s
            self._probe = self._engine.probe(self._limits.probe_s)
        else:
            return self._verdict(self._probe, now)
        return None

    def _verdict(self, probe: OpenProbe, now: float) -> Failure | None:
        proof = probe.answer()
        if proof is Proof.WORKS:
            self._clear()
            self._progress.absolve(now)
        elif proof is Proof.FAILS or (proof is Proof.NONE and now >= self._hung_at):
            return crash.HUNG
        elif proof is Proof.NONE:
            self._probe = self._engine.probe(self._hung_at - now)
        return None

    def _clear(self) -> None:
        if self._probe is not None:
            log.info("engine cleared of suspicion")
        self._probe = None
