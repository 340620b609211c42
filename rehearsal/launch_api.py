"""LaunchInstances of the Auto Scaling API (November 2025), which moto and its botocore do not know.

Synchronous: the answer names the instances, or says why there are none. What is documented is kept: one zone a call
for groups in several zones, the same client token is the same launch, another request with it is refused, desired
capacity grows by what was launched. AWS does not document what it says beyond MaxSize, nor whether a refusal is
remembered under its token: here it is a ValidationError, and yes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from moto.autoscaling.models import FakeAutoScalingGroup

from rehearsal.groups import ApiError, Groups, LaunchRefusal, Member, instance_type_of, market_of

_MARKET_TYPES = {"spot": "Spot", "on-demand": "OnDemand"}


@dataclass(frozen=True)
class LaunchRequest:
    """The parameters of one call, but for its token."""

    group: str
    count: int
    zone: str | None
    subnet: str | None

    @classmethod
    def parse(cls, params: Mapping[str, str]) -> LaunchRequest:
        """Raises ApiError."""
        for required in ("AutoScalingGroupName", "RequestedCapacity", "ClientToken"):
            if not params.get(required):
                raise ApiError("ValidationError", f"{required} is required")
        if params.get("RetryStrategy", "none") != "none":
            raise ApiError("ValidationError", "the rehearsal knows no RetryStrategy but none")
        if "AvailabilityZones.member.2" in params or "SubnetIds.member.2" in params:
            raise ApiError("ValidationError", "Only one Availability Zone or subnet can be specified")
        count = params["RequestedCapacity"]
        if not count.isdigit() or int(count) < 1:
            raise ApiError("ValidationError", "RequestedCapacity must be at least 1")
        return cls(
            group=params["AutoScalingGroupName"],
            count=int(count),
            zone=params.get("AvailabilityZones.member.1"),
            subnet=params.get("SubnetIds.member.1"),
        )


@dataclass(frozen=True)
class LaunchAnswer:
    """What one token stands for."""

    request: LaunchRequest
    token: str
    zone: str
    subnet: str
    instance_type: str
    market: str
    members: Sequence[Member] = ()
    refusal: LaunchRefusal | None = None


@dataclass
class LaunchApi:
    """The operation, with its memory of tokens."""

    groups: Groups
    _answers: dict[str, LaunchAnswer] = field(default_factory=dict)

    def launch(self, params: Mapping[str, str]) -> LaunchAnswer:
        """Raises ApiError for a call that is wrong; a launch that EC2 refuses is an answer."""
        request = LaunchRequest.parse(params)
        token = params["ClientToken"]
        known = self._answers.get(token)
        if known is not None and known.request != request:
            text = "The parameters do not match those of a previous request with the same client token."
            raise ApiError("IdempotentParameterMismatch", text)
        if known is None:
            known = self._answers[token] = self._launch(request, token)
        return known

    def _launch(self, request: LaunchRequest, token: str) -> LaunchAnswer:
        group = self.groups.find(request.group)
        zone = self._zone(group, request)
        _check_max_size(group, request.count)
        answer = LaunchAnswer(
            request=request,
            token=token,
            zone=zone,
            subnet=self.groups.subnet_in(group, zone),
            instance_type=instance_type_of(group),
            market=_MARKET_TYPES[market_of(group)],
        )
        try:
            members = self.groups.launch(group, zone=zone, count=request.count)
        except LaunchRefusal as refusal:
            return LaunchAnswer(**{**vars(answer), "refusal": refusal})
        group.desired_capacity = (group.desired_capacity or 0) + len(members)
        return LaunchAnswer(**{**vars(answer), "members": members})

    def _zone(self, group: FakeAutoScalingGroup, request: LaunchRequest) -> str:
        zones = group.availability_zones
        by_subnet = {self.groups.subnet_in(group, zone): zone for zone in zones}
        if request.subnet is not None and request.subnet not in by_subnet:
            raise ApiError("ValidationError", f"The subnet {request.subnet} does not belong to the group.")
        if request.zone is not None and request.zone not in zones:
            raise ApiError("ValidationError", f"The Availability Zone {request.zone} does not belong to the group.")
        if request.zone is None and request.subnet is None and len(zones) > 1:
            text = "AvailabilityZones or SubnetIds must be specified for groups with multiple Availability Zones."
            raise ApiError("ValidationError", text)
        return request.zone or by_subnet.get(request.subnet or "", zones[0])


def _check_max_size(group: FakeAutoScalingGroup, count: int) -> None:
    wanted = (group.desired_capacity or 0) + count
    if wanted > (group.max_size or 0):
        text = f"Launching {count} would raise desired capacity to {wanted}, above max value {group.max_size}."
        raise ApiError("ValidationError", text)
