"""The load balancer: one address, and behind it either the night watch or the control plane."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws

from control_plane.schema import TAG
from control_plane.settings import Settings

HEALTH_PATH = "/healthz"

IDLE_MARGIN_S = 10
"""How much longer than the longest silence of ours the load balancer waits."""

DEREGISTRATION_DELAY_S = int(Settings().deregistration_delay_s)
"""What streams may still take when ECS replaces a running task; what is new goes to the one that follows it.

About as long as after SIGTERM, for which Fargate allows 120 s: a stream has the same time whichever comes first (see
departure.py). Longer would let longer answers end when a task is replaced while it streams, which is rare (AWS's own
maintenance, or by hand: a new version waits for a wake). But ECS waits for the whole of it at every fall asleep, also
where nothing is open, and Fargate costs as long."""

TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"

_Group = aws.lb.ListenerDefaultActionForwardTargetGroupArgs


class Front(pulumi.ComponentResource):
    """An Application Load Balancer with one listener, which at first faces the night watch.

    Who answers is not Pulumi's business afterwards: the listener's action is turned by what runs, and ignored here.
    """

    def __init__(
        self,
        name: str,
        *,
        namespace: str,
        vpc_id: pulumi.Input[str],
        subnet_ids: Sequence[pulumi.Input[str]],
        security_group_id: pulumi.Input[str],
        gateway: pulumi.Resource,
        port: int,
        certificate_arn: str | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """``certificate_arn``: face the internet, on HTTPS. None: internal, on HTTP; a CDN speaks TLS to the world."""
        super().__init__("diogenes:control_plane:Front", name, {}, opts)
        self._name = name
        self._tags = {TAG: namespace}
        self._child = pulumi.ResourceOptions(parent=self)
        balancer = aws.lb.LoadBalancer(
            name,
            name=namespace,
            load_balancer_type="application",
            internal=certificate_arn is None,
            subnets=list(subnet_ids),
            security_groups=[security_group_id],
            idle_timeout=idle_timeout_s(),
            drop_invalid_header_fields=True,
            tags=self._tags,
            # AWS refuses an address for the internet, and CloudFront a VPC origin, where no gateway is.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[gateway]),
        )
        self.control_plane_group = self._make_control_plane_group(f"{namespace}-control", vpc_id, port)
        self.night_watch_group = aws.lb.TargetGroup(
            f"{name}-night",
            name=f"{namespace}-night",
            target_type="lambda",
            lambda_multi_value_headers_enabled=True,  # without, of two cookies only the last arrives
            # No health check: each would be a paid call of the function.
            tags=self._tags,
            opts=self._child,
        )
        self.listener = self._make_listener(balancer, certificate_arn)
        self.load_balancer_arn = balancer.arn
        self.load_balancer_dns_name = balancer.dns_name
        self.load_balancer_zone_id = balancer.zone_id
        self.register_outputs({"dnsName": balancer.dns_name})

    def _make_control_plane_group(self, physical_name: str, vpc_id: pulumi.Input[str], port: int) -> aws.lb.TargetGroup:
        return aws.lb.TargetGroup(
            f"{self._name}-control",
            name=physical_name,
            target_type="ip",
            protocol="HTTP",
            port=port,
            vpc_id=vpc_id,
            deregistration_delay=DEREGISTRATION_DELAY_S,
            health_check=aws.lb.TargetGroupHealthCheckArgs(
                path=HEALTH_PATH,
                matcher="200",
                interval=5,
                timeout=4,
                healthy_threshold=2,  # ten seconds from its first answer until it is faced
                unhealthy_threshold=6,  # half a minute: being late for a check is no reason to lose a stream
            ),
            tags=self._tags,
            opts=self._child,
        )

    def _make_listener(self, balancer: aws.lb.LoadBalancer, certificate_arn: str | None) -> aws.lb.Listener:
        forward = aws.lb.ListenerDefaultActionForwardArgs(
            target_groups=[
                _Group(arn=self.night_watch_group.arn, weight=1),
                _Group(arn=self.control_plane_group.arn, weight=0),
            ],
            # Said although it is the default: left out, the next refresh finds it and calls it a change.
            stickiness=aws.lb.ListenerDefaultActionForwardStickinessArgs(enabled=False, duration=3600),
        )
        return aws.lb.Listener(
            self._name,
            load_balancer_arn=balancer.arn,
            port=443 if certificate_arn else 80,
            protocol="HTTPS" if certificate_arn else "HTTP",
            certificate_arn=certificate_arn,
            ssl_policy=TLS_POLICY if certificate_arn else None,
            default_actions=[aws.lb.ListenerDefaultActionArgs(type="forward", forward=forward)],
            tags=self._tags,
            # The whole action: of one weight alone, Pulumi could forget a group that was added.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["default_actions"]),
        )


def idle_timeout_s() -> int:
    """Above the longest silence that we keep, and below the server's own keep-alive of 75 s: the side that closes an
    idle connection must be the load balancer, or a request would now and then meet a connection that just closed."""
    return int(Settings().edge_read_timeout_s) + IDLE_MARGIN_S
