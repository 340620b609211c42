"""All settings of the control plane; the only reader of the environment.

``Settings.from_env`` refuses to start on odd values and lists all of them. ``infra.py`` writes the environment from
``Settings.to_env``, so a name is spelled once. Credentials, region and endpoint are the AWS SDK's own variables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

PREFIX = "DIOGENES_"


class InvalidSettings(ValueError):
    """The environment cannot be used; the message lists every problem."""


@dataclass(frozen=True)
class Settings:
    """Seconds unless the name says otherwise. Each is read from ``DIOGENES_<NAME>``."""

    namespace: str = "diogenes-prod"  # prefix of every table and the value of the `diogenes` tag
    host: str = "0.0.0.0"  # noqa: S104 - a container's only interface; the security group decides who reaches it
    port: int = 8080
    metrics_port: int = 9464  # of what is for the inside alone; the load balancer knows nothing of it
    traces_endpoint: str = ""  # a URL that takes OTLP over HTTP; empty: nothing is traced
    traces_headers_parameter: str = ""  # in SSM, of what that endpoint wants to be told, such as a key; empty: nothing
    max_body_bytes: int = 32 * 1024 * 1024

    # What a client sees while a model starts (see routes/inference.py)
    edge_read_timeout_s: float = 60.0  # the longest silence the edge allows; ours stay 5 s under it
    silent_hold_s: float = 25.0  # before the 200, so that early refusals keep their status
    keepalive_s: float = 10.0  # between comments, or newlines
    chunk_keepalive_s: float = 40.0  # between empty chunks
    max_wait_s: float = 600.0
    max_waiters: int = 64  # a model
    failure_memory_s: float = 90.0  # a failed start, or a zone that refused, is remembered this long

    issuer_again_s: float = 30.0  # before an issuer is asked again for a key that it did not show, or did not answer
    transport: str = "https"  # "http" for a desk: cookies without Secure, and issuers on loopback without TLS

    # When nodes come and go (see plan.py)
    cancel_grace_s: float = 120.0  # a start goes on this long after its last waiter left
    lease_s: float = 300.0  # what a node lives on without the control plane
    drain_timeout_s: float = 300.0
    boot_limit_s: float = 1200.0
    silent_node_s: float = 90.0  # no heartbeat for this long: the agent is lost
    claim_limit_s: float = 300.0  # no first word from a launched instance for this long: it never comes
    launch_limit_s: float = 60.0  # for one way down the ladder of markets and zones
    scale_out_s: float = 30.0  # an engine's queue that lasts this long gets the model another node
    scale_in_s: float = 300.0  # load that would fit fewer nodes for this long takes one away

    tick_s: float = 5.0  # between reconciler ticks when nothing happens
    watch_s: float = 0.25  # between looks at the tables while somebody waits
    cloud_watch_s: float = 15.0  # between looks at the cloud when nothing happens
    usage_flush_s: float = 5.0
    spend_fresh_s: float = 30.0  # the month's facts are read again after this; what runs is counted to the moment
    key_cache_s: float = 10.0  # a revoked key dies within this
    stop_timeout_s: float = 110.0  # what streams may still take after SIGTERM; ECS kills 10 s later
    deregistration_delay_s: float = 120.0  # what they may take since the load balancer began to take the task out
    farewell_s: float = 10.0  # before that is over they are ended with an error, while there is a connection to say it

    # Who is told of what is amiss (see notice.py); empty: nobody by this way
    notification_topic_arn: str = ""
    notification_webhook_parameter: str = ""  # in SSM, of its address

    hf_token_parameter: str = ""  # in SSM, of the token that nodes fetch models with; empty: none

    # What it may cost (see budget.py), and what it runs on (see rates.py); US dollars a month
    monthly_budget_usd: float = 100.0
    user_monthly_budget_usd: float = 100.0  # for each person
    speculative_budget_usd: float = 5.0
    budget_hard_cap_percent: float = 120.0
    root_volume_gb: int = 100
    root_volume_mib_s: int = 125
    task_cpu: int = 512  # in 1/1024 vCPU
    task_memory: int = 1024  # MiB
    task_architecture: str = "arm64"

    # Where the front is (see front.py and stage.py); without a listener, nothing sleeps or wakes
    cluster: str = ""
    service: str = ""  # also the family of its task definition
    listener_arn: str = ""
    control_plane_group_arn: str = ""  # target groups of the listener
    night_watch_group_arn: str = ""
    control_plane_idle_timeout_s: float = 600.0
    linger_s: float = 10.0  # from the order to end until a task is not found healthy any more
    propagation_s: float = 30.0  # from the turn of the listener until nothing arrives the old way
    max_holds: int = 6  # clients that the night watch holds at a time (see holds.py)

    @property
    def plain_http(self) -> bool:
        return self.transport == "http"

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Raises InvalidSettings, with every problem in one message."""
        values: dict[str, object] = {}
        problems = []
        known = {PREFIX + setting.name.upper(): setting for setting in fields(cls)}
        for name in sorted(environ):
            if name.startswith(PREFIX) and name not in known:
                problems.append(f"{name} is not a setting")
        for name, setting in known.items():
            if name not in environ:
                continue
            convert = type(getattr(cls, setting.name))
            try:
                values[setting.name] = convert(environ[name])
            except ValueError:
                problems.append(f"{name}={environ[name]!r} is not a number")
        problems += _odd(values)
        if values.get("transport", "https") not in ("https", "http"):
            problems.append(f"{PREFIX}TRANSPORT must be https, or http on a desk")
        if problems:
            raise InvalidSettings("; ".join(problems))
        return cls(**values)  # type: ignore[arg-type]  # each value has its default's type

    def to_env(self) -> dict[str, str]:
        """The environment that gives these settings."""
        return {PREFIX + setting.name.upper(): str(getattr(self, setting.name)) for setting in fields(self)}


def _odd(values: Mapping[str, object]) -> list[str]:
    return [
        f"{PREFIX}{name.upper()} must be a number above zero"
        for name, value in values.items()
        if isinstance(value, int | float) and not 0 < value < math.inf
    ]
