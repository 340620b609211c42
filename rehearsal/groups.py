"""Auto Scaling groups as AWS keeps them, on top of moto's records, which are too forgiving.

Not thread-safe: the account's one lock guards every call. What is kept here and not by moto: MaxSize holds, launches
can be refused, instances start as Pending, Spot is marked, an instance can die by itself and stays listed as
Unhealthy, one that is taken out waits for its group's hooks on termination, dead or alive, and counts no more, scaling
activities are recorded. A launch that SetDesiredCapacity wanted and did not get is not tried again in the background,
which AWS would do. AWS does not document what TerminateInstanceInAutoScalingGroup says of an instance that waits
already: here it is no error and changes nothing, unless MinSize forbids it first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup, InstanceState, autoscaling_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import EC2Backend, ec2_backends

from control_plane.schema import MODEL_TAG
from rehearsal.activities import Activities, Activity
from rehearsal.faults import Faults
from rehearsal.hooks import Hooks, HookSpec

_ALIVE = ("pending", "running")


class ApiError(Exception):
    """An answer of the account to a wrong call: a code of AWS and a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class LaunchRefusal(Exception):
    """EC2 does not give the instance; in the words that AWS uses."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Member:
    """One instance of a group."""

    id: str
    group: str
    model: str
    market: str
    zone: str
    subnet: str
    instance_type: str
    alive: bool
    leaving: bool = False  # its group takes it down, and waits


@dataclass(frozen=True)
class Sizes:
    """What UpdateAutoScalingGroup says about sizes; None: nothing."""

    low: int | None = None
    high: int | None = None
    desired: int | None = None

    PARAMETERS: ClassVar = ("MinSize", "MaxSize", "DesiredCapacity")

    @classmethod
    def parse(cls, params: Mapping[str, str]) -> Sizes:
        low, high, desired = (int(params[name]) if params.get(name) else None for name in cls.PARAMETERS)
        return cls(low, high, desired)


class Groups:
    """All Auto Scaling groups of one region."""

    def __init__(
        self, region: str, *, faults: Faults, mint: Callable[[], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._region = region
        self._faults = faults
        self._hooks = Hooks(lambda: self._autoscaling, clock=clock)
        self._activities = Activities(mint)

    def find(self, name: str) -> FakeAutoScalingGroup:
        """Raises ApiError."""
        group = self._autoscaling.autoscaling_groups.get(name)
        if group is None:
            raise ApiError("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup {name} not found")
        return group

    def members(self) -> Sequence[Member]:
        """Every instance that a group lists, dead or alive."""
        return [member_of(group, state) for group, state in self._states()]

    def desired(self, name: str) -> int:
        return self.find(name).desired_capacity or 0

    def profile(self, instance_id: str) -> str | None:
        """The instance profile of the group's template, by ARN or name. Raises ApiError."""
        told = template_of(self._state(instance_id)[0]).get("IamInstanceProfile", {})
        found = told.get("Arn") or told.get("Name")
        return str(found) if found else None

    def user_data(self, instance_id: str) -> str:
        """Of the group's template, in base64; empty without. Raises ApiError."""
        return str(template_of(self._state(instance_id)[0]).get("UserData") or "")

    def activities(self, group: str | None) -> Sequence[Activity]:
        """Newest first."""
        return self._activities.of(group)

    def subnet_in(self, group: FakeAutoScalingGroup, zone: str) -> str:
        """The group's subnet in the zone. Raises ApiError."""
        ids = (group.vpc_zone_identifier or "").split(",")
        for subnet in self._ec2.describe_subnets(subnet_ids=ids):
            if subnet.availability_zone == zone:
                return str(subnet.id)
        raise ApiError("ValidationError", f"The group has no subnet in the Availability Zone {zone}.")

    def launch(self, group: FakeAutoScalingGroup, *, zone: str, count: int) -> Sequence[Member]:
        """New instances in the group; desired capacity is the caller's business. Raises LaunchRefusal."""
        try:
            self._refuse_if_told(group, zone)
        except LaunchRefusal as refusal:
            text = f"Could not launch instances. {refusal.code} - {refusal.message}"
            self._activities.refused(group.name, text[:255])
            raise
        return [self._launch_one(group, zone) for _ in range(count)]

    def set_desired(self, name: str, desired: int) -> None:
        """Launch or take out until the group has so many. Raises ApiError outside of MinSize and MaxSize."""
        group = self.find(name)
        low, high = group.min_size or 0, group.max_size or 0
        if desired > high:
            text = f"New SetDesiredCapacity value {desired} is above max value {high} for the AutoScalingGroup."
            raise ApiError("ValidationError", text)
        if desired < low:
            text = f"New SetDesiredCapacity value {desired} is below min value {low} for the AutoScalingGroup."
            raise ApiError("ValidationError", text)
        group.desired_capacity = desired
        self.shrink(name)
        self._fill(group)

    def shrink(self, name: str) -> None:
        """Take out what is more than desired and not protected. Raises ApiError."""
        group = self.find(name)
        counted = _counted(group)
        spare = [state for state in counted if not state.protected_from_scale_in]
        for state in spare[: max(0, len(counted) - (group.desired_capacity or 0))]:
            self._take_out(group, state)

    def resize(self, name: str, sizes: Sizes) -> None:
        """Other bounds; desired capacity follows where it is not given. Raises ApiError for what contradicts itself."""
        group = self.find(name)
        low = group.min_size or 0 if sizes.low is None else sizes.low
        high = group.max_size or 0 if sizes.high is None else sizes.high
        if low > high:
            raise ApiError("ValidationError", f"Min size:{low} must be less than or equal to max size:{high}.")
        desired = min(max(group.desired_capacity or 0, low), high) if sizes.desired is None else sizes.desired
        if not low <= desired <= high:
            text = f"Desired capacity:{desired} must be between the specified min size:{low} and max size:{high}"
            raise ApiError("ValidationError", text)
        group.min_size, group.max_size = low, high
        self.set_desired(name, desired)

    def delete(self, name: str, *, force: bool) -> None:
        """Raises ApiError while it has instances, unless forced: then they end at once, whoever waits."""
        group = self.find(name)
        if group.instance_states and not force:
            text = "You cannot delete an AutoScalingGroup while there are instances still in the group."
            raise ApiError("ResourceInUse", text)
        for state in list(group.instance_states):
            self._end(group, state)
        self._hooks.forget(name)
        self._autoscaling.delete_auto_scaling_group(name)

    def add_hooks(self, name: str, specs: Sequence[HookSpec]) -> None:
        self._hooks.add(name, specs)

    def drop_hook(self, name: str, hook: str) -> None:
        """Whoever waits for it waits no more."""
        for state in self.find(name).instance_states:
            self._hooks.complete(hook, str(state.instance_id))
        self.settle()

    def complete(self, name: str, *, hook: str, instance_id: str) -> None:
        """The instance need not wait for this hook any more. Raises ApiError when it does not."""
        group = self.find(name)
        waits = any(state.instance_id == instance_id for state in group.instance_states)
        if not waits or not self._hooks.complete(hook, instance_id):
            text = f"No active Lifecycle Action found with instance ID {instance_id}"
            raise ApiError("ValidationError", text)
        self.settle()

    def settle(self) -> None:
        """End what has waited long enough."""
        for instance_id in self._hooks.free():
            for group, state in list(self._states()):
                if state.instance_id == instance_id:
                    self._end(group, state)

    def terminate(self, instance_id: str, *, decrement: bool) -> Activity:
        """Out of its group at once, or as soon as nobody holds it. Raises ApiError when no group has it, or MinSize
        forbids it.
        """
        group, state = self._state(instance_id)
        desired = group.desired_capacity or 0
        if decrement and desired <= (group.min_size or 0):
            text = (
                f"Currently, desiredSize equals minSize ({group.min_size}). Terminating instance without replacement "
                "will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or "
                "lower group's min size."
            )
            raise ApiError("ValidationError", text)
        if waiting := self._activities.waiting(instance_id):
            return waiting
        if decrement:
            group.desired_capacity = desired - 1
        activity = self._take_out(group, state)
        self._fill(group)
        return activity

    def booted(self, instance_id: str) -> None:
        """The machine runs."""
        _, state = self._state(instance_id)
        if not _leaving(state):
            state.lifecycle_state = "InService"
        _set_state(state, "running", 16)

    def died(self, instance_id: str) -> None:
        """Terminated, but not by its group: the group still lists it, and replaces it unless it is told not to."""
        group, state = self._state(instance_id)
        self._power_off(state)
        state.health_status = "Unhealthy"
        suspended = {entry["ProcessName"] for entry in group.suspended_processes}
        if not _leaving(state) and "ReplaceUnhealthy" not in suspended:
            self._take_out(group, state)
            self._fill(group)

    @property
    def _autoscaling(self) -> AutoScalingBackend:
        return autoscaling_backends[DEFAULT_ACCOUNT_ID][self._region]

    @property
    def _ec2(self) -> EC2Backend:
        return ec2_backends[DEFAULT_ACCOUNT_ID][self._region]

    def _states(self) -> Iterator[tuple[FakeAutoScalingGroup, InstanceState]]:
        for group in self._autoscaling.autoscaling_groups.values():
            for state in group.instance_states:
                yield group, state

    def _state(self, instance_id: str) -> tuple[FakeAutoScalingGroup, InstanceState]:
        for group, state in self._states():
            if state.instance_id == instance_id:
                return group, state
        text = f"Instance Id not found - No managed instance found for instance ID: {instance_id}"
        raise ApiError("ValidationError", text)

    def _refuse_if_told(self, group: FakeAutoScalingGroup, zone: str) -> None:
        for fault in self._faults.pending("refuse"):
            spot_only = fault.what == "spot-capacity" and market_of(group) != "spot"
            if fault.concerns(model=model_of(group), zone=zone) and not spot_only and self._faults.use(fault):
                raise _refusal(fault.what, group, zone)

    def _launch_one(self, group: FakeAutoScalingGroup, zone: str) -> Member:
        tags = {**group.get_propagated_tags(), **group.instance_tags, "aws:autoscaling:groupName": group.name}
        template = group.ec2_launch_template
        reservation = self._ec2.run_instances(
            group.image_id,
            1,
            group.user_data,
            group.security_groups,
            instance_type=instance_type_of(group),
            tags={"instance": tags},
            launch_template={"LaunchTemplateId": template.id} if template else None,
            is_instance_type_default=False,
            subnet_id=self.subnet_in(group, zone),
        )
        instance = reservation.instances[0]
        if market_of(group) == "spot":
            instance.lifecycle = "spot"
        state = InstanceState(instance, lifecycle_state="Pending", autoscaling_group=group)
        _set_state(state, "pending", 0)
        group.instance_states.append(state)
        self._activities.launched(group.name, instance.id)
        return member_of(group, state)

    def _fill(self, group: FakeAutoScalingGroup) -> None:
        """Launch what desired capacity asks for, in the emptiest zones; a refusal is an activity, not an error."""
        for _ in range((group.desired_capacity or 0) - len(_counted(group))):
            busy = [state.availability_zone for state in _counted(group)]
            zone = min(group.availability_zones, key=busy.count)
            try:
                self.launch(group, zone=zone, count=1)
            except LaunchRefusal:
                return

    def _take_out(self, group: FakeAutoScalingGroup, state: InstanceState) -> Activity:
        if self._hooks.hold(group.name, str(state.instance_id)):
            state.lifecycle_state = "Terminating:Wait"
            return self._activities.waits(group.name, state.instance_id)
        return self._end(group, state)

    def _end(self, group: FakeAutoScalingGroup, state: InstanceState) -> Activity:
        group.instance_states.remove(state)
        self._power_off(state)
        return self._activities.ended(group.name, state.instance_id)

    def _power_off(self, state: InstanceState) -> None:
        if state.instance.state in _ALIVE:
            self._ec2.terminate_instances([state.instance_id])


def member_of(group: FakeAutoScalingGroup, state: InstanceState) -> Member:
    return Member(
        id=str(state.instance_id),
        group=group.name,
        model=model_of(group),
        market=market_of(group),
        zone=str(state.availability_zone),
        subnet=str(state.instance.subnet_id),
        instance_type=str(state.instance_type),
        alive=state.instance.state in _ALIVE,
        leaving=_leaving(state),
    )


def _leaving(state: InstanceState) -> bool:
    return state.lifecycle_state.startswith("Terminating")


def _counted(group: FakeAutoScalingGroup) -> Sequence[InstanceState]:
    """What counts towards desired capacity."""
    return [state for state in group.instance_states if not _leaving(state)]


def template_of(group: FakeAutoScalingGroup) -> Mapping[str, Any]:
    """The launch template's data, in the version that the group takes."""
    template = group.ec2_launch_template
    data: Mapping[str, Any] = template.get_version(group.launch_template_version).data if template else {}
    return data


def model_of(group: FakeAutoScalingGroup) -> str:
    return next((tag["Value"] for tag in group.tags if tag["Key"] == MODEL_TAG), "")


def market_of(group: FakeAutoScalingGroup) -> str:
    """A group buys either On-Demand or Spot, never both: so its template says 100 or 0 per cent."""
    distribution = (group.mixed_instances_policy or {}).get("InstancesDistribution", {})
    return "spot" if str(distribution.get("OnDemandPercentageAboveBaseCapacity", 100)) == "0" else "on-demand"


def instance_type_of(group: FakeAutoScalingGroup) -> str:
    """The first choice."""
    overrides = (group.mixed_instances_policy or {}).get("LaunchTemplate", {}).get("Overrides", [])
    return str(overrides[0]["InstanceType"]) if overrides else group.instance_type


def _set_state(state: InstanceState, name: str, code: int) -> None:
    state.instance.instance_state.name = name
    state.instance.instance_state.code = code


def _refusal(word: str, group: FakeAutoScalingGroup, zone: str) -> LaunchRefusal:
    kind = instance_type_of(group)
    spot = market_of(group) == "spot"
    if word == "quota" and spot:
        return LaunchRefusal("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    if word == "quota":
        text = (
            "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket "
            "that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to "
            "request an adjustment to this limit."
        )
        return LaunchRefusal("VcpuLimitExceeded", text)
    if word == "misconfigured":
        return LaunchRefusal("InvalidAMIID.NotFound", f"The image id '[{group.image_id}]' does not exist")
    if word == "spot-capacity":
        return LaunchRefusal("UnfulfillableCapacity", "Unable to fulfill capacity due to your request configuration.")
    text = f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({zone})."
    return LaunchRefusal("InsufficientInstanceCapacity", text)
