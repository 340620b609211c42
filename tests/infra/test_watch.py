"""Alarms that are silent while nothing is wrong, a topic that mails the owner, a dashboard of all that is measured."""

from __future__ import annotations

import json

import pytest

from control_plane.metrics import DIMENSION, NAMESPACE, Metric
from tests.infra.component import Registrations
from tests.infra.whole import configured

DEPLOYMENT = "diogenes-desk"
ALARMING = {
    Metric.REPAIRS,
    Metric.OVERDUE_NODES,
    Metric.IDLE_AWAKE,
    Metric.DOLLARS,
}


@pytest.fixture(scope="module")
def registrations() -> Registrations:
    return configured("as published").registrations


def test_every_alarm_watches_what_is_sent_and_mails_the_owner(registrations: Registrations) -> None:
    topic = registrations.one(":Topic")
    subscription = registrations.one(":TopicSubscription").inputs
    assert (subscription["protocol"], subscription["topic"]) == ("email", topic.state["arn"])
    assert subscription["endpoint"] == "me@example.com"
    alarms = [each.inputs for each in registrations.of(":MetricAlarm")]
    assert {alarm["metricName"] for alarm in alarms} == ALARMING
    for alarm in alarms:
        assert (alarm["namespace"], alarm["dimensions"]) == (NAMESPACE, {DIMENSION: DEPLOYMENT})
        assert alarm["treatMissingData"] == "notBreaching"
        assert alarm["alarmActions"] == [topic.state["arn"]]
        assert alarm["period"] * alarm["evaluationPeriods"] <= 86400  # CloudWatch's own bound


def test_others_who_are_to_be_told_are_subscribed_beside_the_owner_and_nobody_twice() -> None:
    subscriptions = configured("with notices").registrations.of(":TopicSubscription")
    endpoints = {each.name: each.inputs["endpoint"] for each in subscriptions}
    assert endpoints == {"watch": "me@example.com", "watch-ann@example.org": "ann@example.org"}


def test_the_control_plane_may_idle_for_as_long_as_it_is_configured(registrations: Registrations) -> None:
    alarm = registrations.one(":MetricAlarm", "watch-idle-awake").inputs
    assert alarm["period"] * alarm["evaluationPeriods"] > 600


def test_the_dashboard_shows_all_that_is_measured_once_and_nothing_overlaps(registrations: Registrations) -> None:
    widgets = json.loads(registrations.one(":Dashboard").inputs["dashboardBody"])["widgets"]
    shown = [metric for widget in widgets for metric in widget["properties"]["metrics"]]
    assert sorted(metric for _, metric, _, _ in shown) == sorted(Metric)
    assert {(namespace, name, value) for namespace, _, name, value in shown} == {(NAMESPACE, DIMENSION, DEPLOYMENT)}
    assert len({(widget["x"], widget["y"]) for widget in widgets}) == len(widgets)


def test_times_are_shown_by_their_percentile_and_counts_by_their_sum(registrations: Registrations) -> None:
    widgets = json.loads(registrations.one(":Dashboard").inputs["dashboardBody"])["widgets"]
    shown = {widget["properties"]["metrics"][0][1]: widget["properties"]["stat"] for widget in widgets}
    assert (shown[Metric.FIRST_TOKEN], shown[Metric.OVERHEAD], shown[Metric.START]) == ("p90", "p90", "p90")
    assert (shown[Metric.REQUESTS], shown[Metric.NODES]) == ("Sum", "Maximum")
