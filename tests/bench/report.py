"""Results for people: one Markdown table, and every target with its verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench.results import Results

ROWS = (
    ("added per chunk, 10 streams, p50 (us)", "chunk_p50_us_10"),
    ("added per chunk, 10 streams, p99 (us)", "chunk_p99_us_10"),
    ("added per chunk, 50 streams, p50 (us)", "chunk_p50_us_50"),
    ("added per chunk, 50 streams, p99 (us)", "chunk_p99_us_50"),
    ("burst of 100 streams, p99 (us)", "burst_p99_us"),
    ("first chunk, 10 streams, p50 (us)", "first_p50_us_10"),
    ("CPU per chunk, 50 streams (us)", "chunk_cpu_us_50"),
    ("CPU per short request (us)", "request_cpu_us"),
    ("CPU per 16-chunk stream (us)", "stream_cpu_us"),
    ("idle memory (MB)", "idle_mb"),
    ("memory per held stream (KB)", "held_kb"),
    ("hang-up to engine, median (ms)", "hang_up_median_ms"),
    ("hang-up to engine, max (ms)", "hang_up_max_ms"),
    ("hang-up before any answer, max (ms)", "hang_up_silent_max_ms"),
    ("start to first answer, CPU (s)", "start_cpu_s"),
    ("cold model: request to launch call (s)", "launch_s"),
    ("cold model: engine ready to first event (s)", "first_event_s"),
    ("night watch's import, CPU (s)", "night_import_cpu_s"),
    ("night watch's import, against asyncio's, CPU (x)", "night_import_ratio"),
    ("night watch's import, memory (MB)", "night_import_mb"),
    ("flood of bad keys: turned away (/s)", "flood_per_s"),
    ("flood of bad keys: reads of tables meanwhile", "flood_reads"),
    ("good request, median, in calm (ms)", "flood_calm_median_ms"),
    ("good request, median, in the flood (ms)", "flood_good_median_ms"),
)

_Measure = Callable[[Results], float | None]


@dataclass(frozen=True)
class Target:
    title: str
    limit: float
    unit: str
    measure: _Measure

    def verdict(self, results: Results) -> Verdict:
        value = self.measure(results)
        return Verdict(self, value, None if value is None else value <= self.limit)


@dataclass(frozen=True)
class Verdict:
    target: Target
    value: float | None
    met: bool | None  # None: not measured

    def __str__(self) -> str:
        word = {True: "pass", False: "MISSED", None: "not measured"}[self.met]
        unit = self.target.unit
        value = "" if self.value is None else f": {_figure(self.value)}{unit}"
        return f"{word:12}  {self.target.title}{value} (target <= {_figure(self.target.limit)}{unit})"


def _median(measure: str) -> _Measure:
    return lambda results: results.median("diogenes", measure)


def _worst(measure: str) -> _Measure:
    return lambda results: results.worst("diogenes", measure)


def _p95(measure: str) -> _Measure:
    return lambda results: results.p95("diogenes", measure)


def _against_nginx(measure: str) -> _Measure:
    return lambda results: results.ratio("diogenes", "nginx", measure)


def _flood_ratio(results: Results) -> float | None:
    held, calm = (results.median("diogenes", f"flood_{when}_median_ms") for when in ("good", "calm"))
    return held / calm if held is not None and calm else None


TARGETS = (
    Target("added p99 per chunk at 50 streams, against nginx", 2.6, "x", _against_nginx("chunk_p99_us_50")),
    Target("CPU per chunk at 50 streams, against nginx", 2.6, "x", _against_nginx("chunk_cpu_us_50")),
    Target("CPU per short request", 300, " us", _median("request_cpu_us")),
    Target("memory per held stream", 30, " KB", _median("held_kb")),
    Target("idle memory", 120, " MB", _median("idle_mb")),
    Target("CPU from start to first answer", 1.5, " s", _median("start_cpu_s")),
    Target("client's hang-up to the engine, worst", 50, " ms", _worst("hang_up_max_ms")),
    Target("cold model: request to launch call, p95", 1, " s", _p95("launch_s")),
    Target("cold model: engine ready to first event, p95", 1, " s", _p95("first_event_s")),
    Target("night watch: import, CPU", 1.5, " s", _median("night_import_cpu_s")),
    Target("night watch: memory of its import", 256, " MB", _worst("night_import_mb")),
    Target("flood: reads of tables that 1,000 bad keys add", 1, "", _worst("flood_extra_reads_per_1000")),
    Target("flood: a good request, against calm", 20, "x", _flood_ratio),
)


def verdicts(results: Results) -> Sequence[Verdict]:
    return [target.verdict(results) for target in TARGETS]


def table(results: Results) -> str:
    """Medians; a dash where something was not measured."""
    names = results.contenders
    lines = [["measure", *names, "diogenes / nginx"], ["---"] + ["---:"] * (len(names) + 1)]
    for title, measure in ROWS:
        cells = [_cell(results.median(name, measure)) for name in names]
        if any(cell != "-" for cell in cells):
            lines.append([title, *cells, _cell(results.ratio("diogenes", "nginx", measure))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def closing(results: Results) -> Iterator[str]:
    """What is missing, what is good to know, and one line for each target."""
    yield from (f"note: {note}" for note in results.notes)
    if (less := results.ratio("litellm", "diogenes", "request_cpu_us")) is not None:
        yield f"information: a short request costs LiteLLM's proxy {_figure(less)} times the CPU of ours"
    yield from map(str, verdicts(results))


def _cell(value: float | None) -> str:
    return "-" if value is None else _figure(value)


def _figure(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
