"""Whether an engine that got ready still works, by what it answers and by what it counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpu_node import crash
from gpu_node.engine import Line, Load
from gpu_node.progress import ProgressWatch
from gpu_node.protocol import Failure

log = logging.getLogger("diogenes.node")


class EngineOutput(Protocol):
    @property
    def tail(self) -> Sequence[str]: ...

    def take(self) -> Sequence[Line]: ...


class OpenProbe(Protocol):
    """See engine.Probe."""

    def answer(self) -> bool | None: ...


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
    suspect_after_s: float
    probe_s: float


class Vitals:
    """Watches one engine from when it got ready."""

    def __init__(self, engine: RunningEngine, *, clock: Callable[[], float], limits: VitalLimits) -> None:
        self._engine = engine
        self._clock = clock
        self._limits = limits
        self._answered_at = clock()
        self._progress = ProgressWatch(suspect_after_s=limits.suspect_after_s)
        self._probe: OpenProbe | None = None
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
        if self._probe is not None:
            return self._verdict(self._probe, now)
        tokens = self.load.tokens if self.load else {}
        if self.load is not None and self._progress.observe(at_work=self.busy, tokens=tokens, now=now):
            log.warning("engine suspected", extra={"running": self.load.running, "waiting": self.load.waiting})
            self._probe = self._engine.probe(self._limits.probe_s)
        return None

    def _verdict(self, probe: OpenProbe, now: float) -> Failure | None:
        answer = probe.answer()
        if answer is None:
            return None
        self._probe = None
        if not answer:
            return crash.HUNG
        log.info("engine cleared of suspicion")
        self._progress.absolve(now)
        return None
