"""What is counted, in Prometheus' words, at ``/metrics`` of a port of its own: see ``inside``.

The package that writes them is loaded by the first who asks, in a thread: nobody's stream waits for an import.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from control_plane.exchange import Receive, Scope, Send
from control_plane.nodes import Node, public_word
from control_plane.rates import MICRO
from control_plane.traffic import Histogram, Traffic

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PATH = "/metrics"


@dataclass(frozen=True)
class Now:
    """What is so at this moment, by model where it is a mapping."""

    nodes: Sequence[Node] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)
    streams: Mapping[str, int] = field(default_factory=dict)
    spent_micro_usd: int | None = None  # in this month (UTC), by the whole deployment; None: not known yet
    micro_usd_per_hour: int = 0  # of what runs, this process with it


class Exposition:
    """ASGI application. Who came through a load balancer gets nothing: it is for the inside alone."""

    def __init__(self, traffic: Traffic, now: Callable[[], Now]) -> None:
        self._traffic = traffic
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        good = scope["path"] == PATH and scope["method"] in ("GET", "HEAD") and b"x-forwarded-for" not in headers
        if not good:
            await _answer(send, 404, b"", "text/plain")
            return
        write, kind = await asyncio.to_thread(_writer, headers.get(b"accept", b"").decode("latin-1"))
        await _answer(send, 200, write(_Collector(self._traffic, self._now())), kind)


async def _answer(send: Send, status: int, body: bytes, kind: str) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _writer(accept: str) -> tuple[Callable[[_Collector], bytes], str]:
    """Writes a form that the asker takes, and what it is called."""
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import CollectorRegistry

    encode, kind = choose_encoder(accept)

    def write(collector: _Collector) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(collector)
        return encode(registry)

    return write, kind


class _Collector:
    """Everything, once."""

    def __init__(self, traffic: Traffic, now: Now) -> None:
        self._traffic = traffic
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._starts()
        yield from self._moment()

    def _requests(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        traffic = self._traffic
        told = "Inference requests that are over; of a failure after a 200, the true status."
        requests = CounterMetricFamily("diogenes_requests", told, labels=["model", "route", "status"])
        for labels, count in sorted(traffic.requests.items()):
            requests.add_metric(labels, count)
        yield requests
        first = [((model, "cold" if cold else "warm"), each) for (model, cold), each in traffic.first_token.items()]
        told = "From the whole request to the first bytes of its stream."
        yield _histograms("diogenes_time_to_first_token_seconds", told, ["model", "start"], first)
        told = "What Diogenes took until a ready engine was asked, without the client's own time."
        yield _histograms("diogenes_relay_overhead_seconds", told, [], [((), traffic.overhead)])

    def _starts(self) -> Iterator[Metric]:
        starts = [((model,), each) for model, each in self._traffic.starts.items()]
        yield _histograms("diogenes_cold_start_seconds", "From launch to ready.", ["model"], starts)
        told = "What each phase of a start took."
        phases = self._traffic.phases.items()
        yield _histograms("diogenes_cold_start_phase_seconds", told, ["model", "phase"], phases)

    def _moment(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        now = self._now
        for name, told, counts in (
            ("diogenes_waiting_requests", "Requests that wait for a node to get ready.", now.waiting),
            ("diogenes_streams", "Streams that engines work on.", now.streams),
        ):
            gauge = GaugeMetricFamily(name, told, labels=["model"])
            for model, count in sorted(counts.items()):
                gauge.add_metric([model], count)
            yield gauge
        nodes = GaugeMetricFamily("diogenes_nodes", "GPU nodes, as their rows say.", labels=["model", "state"])
        for (model, state), count in sorted(_by_state(now.nodes).items()):
            nodes.add_metric([model, state], count)
        yield nodes
        rate = now.micro_usd_per_hour / MICRO
        yield GaugeMetricFamily("diogenes_dollars_per_hour", "What runs now costs, by list prices.", value=rate)
        if now.spent_micro_usd is not None:
            told = "Spent in this month (UTC), by list prices."
            yield GaugeMetricFamily("diogenes_month_dollars", told, value=now.spent_micro_usd / MICRO)


def _histograms(
    name: str, told: str, labels: Sequence[str], found: Iterable[tuple[Sequence[str], Histogram]]
) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, told, labels=labels)
    for values, histogram in found:
        family.add_metric(values, _buckets(histogram), histogram.total)
    return family


def _buckets(histogram: Histogram) -> Sequence[tuple[str, float]]:
    """How many were at most so much; the last, how many there were."""
    total, buckets = 0, []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


def _by_state(nodes: Sequence[Node]) -> Mapping[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for node in nodes:
        key = node.model, public_word(node.state)
        counts[key] = counts.get(key, 0) + 1
    return counts
