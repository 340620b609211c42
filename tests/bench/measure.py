"""The measures of one contender: loads of a fixed shape, what they cost, and clients that hang up.

Latencies are taken under real-time scheduling where the machine allows it; costs are CPU time of the proxy's own
threads, which other work on the machine does not change much.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.client import Address, active_requests, hang_up
from tests.bench.contenders import Contender
from tests.bench.processes import LOAD_CPU, pinning, undisturbed

Values = dict[str, float]

WINDOWS = 3
HANG_UPS = 20


class Spoiled(RuntimeError):
    """A run whose figures mean nothing: requests failed, or chunks are missing."""


@dataclass(frozen=True)
class Load:
    """N clients in a closed loop; ``gap_us`` between the chunks of a stream, 0 = as fast as they go."""

    connections: int
    stream: bool = True
    chunks: int = 16
    gap_us: int = 0
    align: bool = False
    seconds: float = 2.0
    warm_up_s: float = 1.0
    ramp_s: float = 0.5

    @property
    def words(self) -> list[str]:
        numbers = {
            "--connections": self.connections,
            "--chunks": self.chunks,
            "--gap-us": self.gap_us,
            "--seconds": self.seconds,
            "--warm-up": self.warm_up_s,
            "--ramp": self.ramp_s,
        }
        words = [word for name, number in numbers.items() for word in (name, str(number))]
        return words + ["--stream"] * self.stream + ["--align"] * self.align


@dataclass(frozen=True)
class Run:
    """What one load brought, and what it cost the contender in the same window."""

    values: Values
    cpu_us: float
    rss_kb: int  # when the window opened: all streams are held by then

    def cpu_us_per(self, count: str) -> float:
        return self.cpu_us / self.values[count]


class Meter:
    """Measures contenders in front of one engine."""

    def __init__(self, program: Path, engine: Contender, *, pace: float, real_time: bool) -> None:
        self._program = program
        self._engine = engine
        self._pace = pace  # of 1: the windows' length
        self._real_time = real_time
        self._hang_ups = 0

    def requests(self, contender: Contender) -> Values:
        """Short requests without streaming, 32 at a time."""
        run = self._run(contender, Load(32, stream=False, seconds=2 * self._pace, ramp_s=0.1), real_time=False)
        return {"request_cpu_us": run.cpu_us_per("answers")}

    def short_streams(self, contender: Contender) -> Values:
        """Streams of 16 chunks without a gap, 32 at a time."""
        run = self._run(contender, Load(32, seconds=2 * self._pace, ramp_s=0.1), real_time=False)
        return {"stream_cpu_us": run.cpu_us_per("answers")}

    def streams(self, contender: Contender, count: int) -> Values:
        """So many streams with a chunk every 10 ms; medians of a few windows.

        How the streams' phases happen to fall together moves a window's tail twofold, for every contender.
        """
        load = Load(count, chunks=100, gap_us=10_000, seconds=3 * self._pace, warm_up_s=1.3, ramp_s=1.0)
        runs = [self._run(contender, load) for _ in range(WINDOWS)]
        names = ("chunk_p50_us", "chunk_p99_us", "first_p50_us")
        values = {f"{name}_{count}": statistics.median(run.values[name] for run in runs) for name in names}
        return {**values, f"chunk_cpu_us_{count}": statistics.median(run.cpu_us_per("chunks") for run in runs)}

    def bursts(self, contender: Contender) -> Values:
        """100 streams whose chunks all leave the engine at the same moment, every 50 ms."""
        load = Load(100, chunks=60, gap_us=50_000, align=True, seconds=3 * self._pace, warm_up_s=1.5, ramp_s=1.0)
        return {"burst_p99_us": self._run(contender, load).values["chunk_p99_us"]}

    def memory(self, contender: Contender) -> Values:
        """At rest after some requests, and what every stream adds that is held at a chunk a second."""
        self._run(contender, Load(8, chunks=20, gap_us=1_000, seconds=0.3, warm_up_s=0.3, ramp_s=0.1))
        idle_kb = contender.process.rss_kb()
        count = contender.held_streams
        load = Load(count, chunks=60, gap_us=1_000_000, seconds=0.5, warm_up_s=4.0, ramp_s=2.5)
        run = self._run(contender, load, real_time=False, check_held=True)
        return {"idle_mb": idle_kb / 1024, "held_kb": (run.rss_kb - idle_kb) / count}

    def hang_ups(self, contender: Contender) -> Values:
        """From the client's hang-up to the engine's notice of it, in mid-stream and before any answer."""
        moments = {}
        for name, silent in (("stream", False), ("silent", True)):
            moments[name] = [self._hang_up(contender, silent=silent) for _ in range(HANG_UPS // 2)]
        everything = [ms for each in moments.values() for ms in each]
        return {
            "hang_up_median_ms": statistics.median(everything),
            "hang_up_max_ms": max(everything),
            "hang_up_stream_max_ms": max(moments["stream"]),
            "hang_up_silent_max_ms": max(moments["silent"]),
        }

    def _hang_up(self, contender: Contender, *, silent: bool) -> float:
        self._hang_ups += 1
        return hang_up(contender.target, self._address, request=self._hang_ups, silent=silent)

    @property
    def _address(self) -> Address:
        return self._engine.target.address

    def _run(self, contender: Contender, load: Load, *, real_time: bool = True, check_held: bool = False) -> Run:
        real_time = real_time and self._real_time
        command = [*_scheduled(real_time), str(self._program), *_whom(contender), *load.words]
        with ExitStack() as stack:
            if real_time:
                stack.enter_context(undisturbed(contender.process, self._engine.process))
            popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            stack.enter_context(popen)
            stack.callback(popen.kill)
            _expect(popen, "begin")
            cpu_ns, rss_kb = contender.process.cpu_ns(), contender.process.rss_kb()
            held = active_requests(self._address) if check_held else load.connections
            _expect(popen, "end")
            cpu_us = (contender.process.cpu_ns() - cpu_ns) / 1000
            values: Values = json.loads(_line(popen))
            complaints = _complaints(popen)
        _check(values, contender.name, complaints)
        if held != load.connections:
            raise Spoiled(f"{contender.name} holds {held} streams of {load.connections}")
        return Run(values=values, cpu_us=cpu_us, rss_kb=rss_kb)


def _scheduled(real_time: bool) -> list[str]:
    """Above proxy and engine: the load's own lateness must not count as the proxy's."""
    return ["chrt", "--rr", "3"] * real_time + ["taskset", "-c", str(LOAD_CPU)] * pinning()


def _whom(contender: Contender) -> list[str]:
    target = contender.target
    return ["--address", str(target.address), "--key", target.key, "--model", target.model]


def _expect(popen: subprocess.Popen[str], word: str) -> None:
    if (line := _line(popen)) != word:
        raise Spoiled(f"the load said {line!r} instead of {word!r}")


def _line(popen: subprocess.Popen[str]) -> str:
    if popen.stdout and (line := popen.stdout.readline().strip()):
        return line
    raise Spoiled(f"the load ended early: {_complaints(popen)}")


def _complaints(popen: subprocess.Popen[str]) -> str:
    return popen.stderr.read().strip() if popen.stderr else ""


def _check(values: Values, name: str, complaints: str) -> None:
    found = {kind: values[kind] for kind in ("errors", "incomplete", "disordered") if values[kind]}
    if found:
        raise Spoiled(f"{name}: {found} {complaints}")
