"""What the containers are told: the same settings for the task and both functions."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.deployment import Deployment
from control_plane.infra.names import cluster_name, service_name
from control_plane.quotas import most_holds
from control_plane.settings import PREFIX, Settings


def environment(
    deployment: Deployment,
    *,
    listener_arn: str,
    control_plane_group_arn: str,
    night_watch_group_arn: str,
    hf_token_parameter: str = "",
    notification_topic_arn: str = "",
    notification_webhook_parameter: str = "",
    traces_headers_parameter: str = "",
) -> Mapping[str, str]:
    """The variables that give these settings: what differs from the defaults, and always the namespace."""
    settings = Settings(
        namespace=deployment.namespace,
        hf_token_parameter=hf_token_parameter,
        notification_topic_arn=notification_topic_arn,
        notification_webhook_parameter=notification_webhook_parameter,
        traces_endpoint=deployment.telemetry.traces_endpoint or "",
        traces_headers_parameter=traces_headers_parameter,
        cluster=cluster_name(deployment.namespace),
        service=service_name(deployment.namespace),
        listener_arn=listener_arn,
        control_plane_group_arn=control_plane_group_arn,
        night_watch_group_arn=night_watch_group_arn,
        control_plane_idle_timeout_s=float(deployment.control_plane_idle_timeout_s),
        max_holds=most_holds(deployment.lambda_concurrency),
        monthly_budget_usd=float(deployment.monthly_budget_usd),
        user_monthly_budget_usd=float(deployment.user_monthly_budget_usd),
        speculative_budget_usd=float(deployment.speculative_budget_usd),
        budget_hard_cap_percent=float(deployment.budget_hard_cap_percent),
        root_volume_gb=deployment.root_volume_gb,
        root_volume_mib_s=deployment.root_volume_mib_s,
        task_cpu=deployment.cpu,
        task_memory=deployment.memory,
        task_architecture=deployment.architecture,
    )
    defaults = Settings().to_env()
    return {
        name: value
        for name, value in settings.to_env().items()
        if name == f"{PREFIX}NAMESPACE" or value != defaults[name]
    }
