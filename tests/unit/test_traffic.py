"""What is counted of a request, a start and a minute."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.boots import Boot
from control_plane.metrics import MAX_VALUES, Metric, embedded, of_start
from control_plane.passage import HUNG_UP, Passage
from control_plane.traffic import Histogram, Traffic, outcome
from gpu_node.protocol import Phase

STREAMED = Passage("/v1/x", 100.0, model="m", streamed=True, upload_s=3.0, sent_at=103.25, first_at=104.0)


@pytest.mark.parametrize(
    ("status", "told"), [(200, "2xx"), (404, "4xx"), (429, "4xx"), (HUNG_UP, "hung-up"), (503, "5xx")]
)
def test_a_status_is_told_by_its_class(status: int, told: str) -> None:
    assert outcome(status) == told


def test_a_value_on_a_bound_is_within_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 7.5)


def test_what_the_client_took_to_send_is_not_ours() -> None:
    assert (STREAMED.overhead_s, STREAMED.first_token_s) == (0.25, 1.0)


def test_who_waited_for_a_node_or_was_refused_had_no_overhead_of_the_relay() -> None:
    assert replace(STREAMED, asked_at=101.0).overhead_s is None
    assert replace(STREAMED, sent_at=0.0).overhead_s is None


def test_an_answer_at_once_and_one_that_never_came_have_no_first_token() -> None:
    assert replace(STREAMED, streamed=False).first_token_s is None
    assert replace(STREAMED, first_at=0.0).first_token_s is None


def test_a_minute_is_told_once_and_an_empty_one_not_at_all() -> None:
    traffic = Traffic()
    traffic.passed(STREAMED)
    traffic.passed(replace(STREAMED, status=502, sent_at=0.0, first_at=0.0))
    assert traffic.take_minute() == {
        Metric.REQUESTS: 2,
        Metric.FAILED_REQUESTS: 1,
        Metric.OVERHEAD: [0.25],
        Metric.FIRST_TOKEN: [1.0],
    }
    assert traffic.take_minute() == {}
    assert sum(traffic.requests.values()) == 2  # those go on


def test_no_more_values_are_kept_of_a_minute_than_a_line_may_hold() -> None:
    traffic = Traffic()
    for _ in range(MAX_VALUES + 50):
        traffic.passed(STREAMED)
    minute = traffic.take_minute()
    assert minute[Metric.REQUESTS] == MAX_VALUES + 50
    assert minute[Metric.FIRST_TOKEN] == [1.0] * MAX_VALUES


def test_every_phase_of_a_start_is_a_metric_of_its_own_in_seconds() -> None:
    boot = Boot(10.0 * len(Phase), phases={str(phase): 10.0 for phase in Phase})
    values = of_start(boot)
    assert values.pop(Metric.START) == 10.0 * len(Phase)  # type: ignore[attr-defined]
    assert len(values) == len(Phase)
    line = embedded("d", of_start(boot), 1.0)
    (directive,) = line["_aws"]["CloudWatchMetrics"]  # type: ignore[index]
    assert {metric["Unit"] for metric in directive["Metrics"]} == {"Seconds"}
