"""What tells people that something is amiss: a topic that mails alarms and notices, and a dashboard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from control_plane.deployment import Deployment
from control_plane.metrics import DIMENSION, NAMESPACE, PHASES, TIMES, Metric
from control_plane.schema import TAG

PERIOD_S = 300
DAY_S = 86400

PACE = 10
"""A day may cost this fraction of the month's budget; more, and the owner is told."""


@dataclass(frozen=True)
class _Watched:
    """One alarm: so many periods in a row in which the sum lies above the threshold."""

    name: str
    metric: Metric
    why: str
    threshold: float = 0.0
    period_s: int = PERIOD_S
    periods: int = 1


def watched(deployment: Deployment) -> Sequence[_Watched]:
    """Nothing of it is ever sent while all is well, so what is missing is good.

    Failed starts and budgets are told by notices, which say more of them: see notice.py.
    """
    idle = -(-deployment.control_plane_idle_timeout_s // PERIOD_S) + 2
    pace = deployment.monthly_budget_usd / PACE
    return (
        _Watched("repairs", Metric.REPAIRS, "The janitor repaired something: see the events of cause janitor."),
        _Watched("overdue", Metric.OVERDUE_NODES, "A node is older than anything allows: see /api/cluster.", periods=2),
        _Watched("idle-awake", Metric.IDLE_AWAKE, "The control plane is awake, and nothing needs it.", periods=idle),
        _Watched("pace", Metric.DOLLARS, f"A tenth of the month's budget in one day: {pace:g} $.", pace, DAY_S),
    )


class Watch(pulumi.ComponentResource):
    """One topic for all alarms and notices; whoever is to get them confirms its mail once, the owner first."""

    def __init__(self, name: str, *, deployment: Deployment, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("diogenes:control_plane:Watch", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        tags = {TAG: deployment.namespace}
        topic = aws.sns.Topic(name, name=f"{deployment.namespace}-alarms", tags=tags, opts=child)
        owner = deployment.allowed_emails[0]
        aws.sns.TopicSubscription(name, topic=topic.arn, protocol="email", endpoint=owner, opts=child)
        for email in deployment.notification_emails:
            if email != owner.casefold():
                aws.sns.TopicSubscription(
                    f"{name}-{email}", topic=topic.arn, protocol="email", endpoint=email, opts=child
                )
        for each in watched(deployment):
            aws.cloudwatch.MetricAlarm(
                f"{name}-{each.name}",
                name=f"{deployment.namespace}-{each.name}",
                alarm_description=each.why,
                namespace=NAMESPACE,
                metric_name=str(each.metric),
                dimensions={DIMENSION: deployment.namespace},
                statistic="Sum",
                comparison_operator="GreaterThanThreshold",
                threshold=each.threshold,
                period=each.period_s,
                evaluation_periods=each.periods,
                treat_missing_data="notBreaching",
                alarm_actions=[topic.arn],
                tags=tags,
                opts=child,
            )
        aws.cloudwatch.Dashboard(
            name, dashboard_name=deployment.namespace, dashboard_body=dashboard(deployment), opts=child
        )
        self.topic_arn = topic.arn
        self.register_outputs({"topic": topic.arn})


def dashboard(deployment: Deployment) -> str:
    """What runs and costs; how it is served; how it starts; what is amiss."""
    graphs: Sequence[Sequence[Metric]] = (
        (Metric.NODES,),
        (Metric.WAITING,),
        (Metric.DOLLARS,),
        (Metric.REQUESTS, Metric.FAILED_REQUESTS),
        (Metric.FIRST_TOKEN,),
        (Metric.OVERHEAD,),
        (Metric.START,),
        tuple(PHASES.values()),
        (Metric.FAILED_STARTS, Metric.FAILED_WAKES),
        (Metric.REPAIRS,),
        (Metric.OVERDUE_NODES,),
        (Metric.IDLE_AWAKE,),
        (Metric.BUDGETS,),
    )
    widgets = [_graph(deployment, shown, place) for place, shown in enumerate(graphs)]
    return json.dumps({"widgets": widgets})


def _graph(deployment: Deployment, shown: Sequence[Metric], place: int) -> Mapping[str, Any]:
    """Three in a row."""
    return {
        "type": "metric",
        "x": 8 * (place % 3),
        "y": 6 * (place // 3),
        "width": 8,
        "height": 6,
        "properties": {
            "title": str(shown[0]) if len(shown) == 1 else f"{shown[0]} …",
            "region": deployment.region,
            "stat": _stat(shown[0]),
            "period": PERIOD_S,
            "metrics": [[NAMESPACE, str(metric), DIMENSION, deployment.namespace] for metric in shown],
        },
    }


def _stat(metric: Metric) -> str:
    if metric in TIMES:
        return "p90"
    return "Maximum" if metric in (Metric.NODES, Metric.WAITING) else "Sum"
