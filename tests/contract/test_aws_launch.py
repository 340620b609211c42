"""What Auto Scaling may answer to a launch, and launching where LaunchInstances cannot."""

from __future__ import annotations

from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from control_plane.aws import AwsCloud
from control_plane.errors import (
    DiogenesError,
    LaunchMisconfigured,
    LaunchRefused,
    NoCapacity,
    QuotaExceeded,
    Unavailable,
)
from control_plane.nodes import NodeId
from control_plane.ports import Launch
from tests.contract.groups import MODEL, ZONES, AwsGroups
from tests.memory import FakeClock

SCARCE = "We currently do not have sufficient g6.xlarge capacity in the Availability Zone you requested (us-east-1b)."
QUOTA = "You have requested more vCPU capacity than your current vCPU limit of 0 allows"


def launch(group: str = "group", call: str = "call-1") -> Launch:
    return Launch(f"{group}-{call}", MODEL, group, ZONES[0], "on-demand", 1_795_000_000.0)


class Scripted:
    """An Auto Scaling client whose LaunchInstances says what it is told; everything else is the real one's."""

    def __init__(self, answer: dict[str, Any] | Exception, real: object = None) -> None:
        self._answer = answer
        self._real = real

    async def launch_instances(self, **asked: object) -> dict[str, Any]:
        assert (asked["RequestedCapacity"], asked["RetryStrategy"]) == (1, "none")
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def cloud(answer: dict[str, Any] | Exception, real: object = None, clock: FakeClock | None = None) -> AwsCloud:
    return AwsCloud(cast(Any, Scripted(answer, real)), "test", sleep=(clock or FakeClock()).sleep)


def refusing(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "LaunchInstances")


def errors(*told: tuple[str, str]) -> dict[str, Any]:
    return {"Instances": [], "Errors": [{"ErrorCode": code, "ErrorMessage": message} for code, message in told]}


async def refusal_of(answer: dict[str, Any] | Exception) -> LaunchRefused:
    with pytest.raises(LaunchRefused) as refused:
        await cloud(answer).launch(launch())
    return refused.value


@pytest.mark.parametrize(
    ("code", "message", "kind", "known_as"),
    [
        ("InsufficientInstanceCapacity", SCARCE, NoCapacity, "InsufficientInstanceCapacity"),
        ("UnfulfillableCapacity", "", NoCapacity, "UnfulfillableCapacity"),
        ("", f"Could not launch On-Demand Instances. InsufficientInstanceCapacity - {SCARCE}", NoCapacity,
         "InsufficientInstanceCapacity"),
        ("", SCARCE, NoCapacity, "InsufficientInstanceCapacity"),
        ("Unsupported", "g6.xlarge is not supported in us-east-1e", NoCapacity, "Unsupported"),
        ("NeverHeardOf", "Something new", NoCapacity, "NeverHeardOf"),
        ("", "", NoCapacity, "Unknown"),
        ("VcpuLimitExceeded", QUOTA, QuotaExceeded, "VcpuLimitExceeded"),
        ("", f"Could not launch On-Demand Instances. {QUOTA}", QuotaExceeded, "VcpuLimitExceeded"),
        ("", "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded",
         QuotaExceeded, "MaxSpotInstanceCountExceeded"),
        ("InvalidAMIID.NotFound", "no such image", LaunchMisconfigured, "InvalidAMIID.NotFound"),
        ("UnauthorizedOperation", "", LaunchMisconfigured, "UnauthorizedOperation"),
        ("UnsupportedOperation", "", LaunchMisconfigured, "UnsupportedOperation"),
    ],
)  # fmt: skip
async def test_a_reason_is_known_by_its_code_or_by_the_words_of_its_message(
    code: str, message: str, kind: type[LaunchRefused], known_as: str
) -> None:
    refused = await refusal_of(errors((code, message)))
    assert (type(refused), refused.code, refused.message) == (kind, known_as, message)


async def test_as_long_as_one_type_is_only_scarce_trying_again_can_help() -> None:
    refused = await refusal_of(
        errors(("InvalidAMIID.NotFound", ""), ("VcpuLimitExceeded", ""), ("InsufficientInstanceCapacity", ""))
    )
    assert isinstance(refused, NoCapacity)


async def test_a_quota_weighs_less_than_a_mistake() -> None:
    assert isinstance(await refusal_of(errors(("InvalidAMIID.NotFound", ""), ("VcpuLimitExceeded", ""))), QuotaExceeded)


@pytest.mark.parametrize("code", ["Throttling", "ResourceContention", "ScalingActivityInProgress", "InternalFailure",
                                  "IdempotentCallInProgress", "ExpiredToken", "ServiceUnavailable"])  # fmt: skip
async def test_a_call_that_may_succeed_later_is_no_refusal(code: str) -> None:
    with pytest.raises(Unavailable):
        await cloud(refusing(code)).launch(launch())


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException", "ValidationError",
                                  "IdempotentParameterMismatch"])  # fmt: skip
async def test_a_call_that_can_never_succeed_is_a_mistake_of_configuration(code: str) -> None:
    assert isinstance(await refusal_of(refusing(code, "above max value 1")), LaunchMisconfigured)


async def test_a_missing_permission_is_said_in_plain_words() -> None:
    assert (await refusal_of(refusing("AccessDenied", "no"))).message == (
        "Diogenes is not allowed to launch instances: no"
    )


async def test_an_answer_that_says_nothing_is_no_refusal() -> None:
    with pytest.raises(Unavailable):
        await cloud({"Instances": [], "Errors": []}).launch(launch())


# -- without LaunchInstances -------------------------------------------------------------------------------------------

CANNOT = [
    refusing("UnsupportedOperation"),
    refusing("InvalidAction"),
    refusing("ValidationError", "LaunchInstances is not supported for groups with a warm pool"),
]


async def state(groups: AwsGroups) -> tuple[int, int]:
    (group,) = await groups.cloud.groups()
    return group.desired, len(group.instances)


@pytest.mark.parametrize("error", CANNOT, ids=["unsupported", "unknown", "warm pool"])
async def test_a_group_that_cannot_launch_directly_is_asked_by_its_capacity(
    aws_groups: AwsGroups, error: ClientError
) -> None:
    name = aws_groups.add()
    instance = await cloud(error, aws_groups.client).launch(launch(name))
    assert (await aws_groups.cloud.groups())[0].instances == (instance,)
    assert await state(aws_groups) == (1, 1)


@pytest.mark.parametrize(
    ("word", "kind"),
    [("capacity", NoCapacity), ("quota", QuotaExceeded), ("misconfigured", LaunchMisconfigured)],
)
async def test_a_capacity_that_brings_nothing_is_taken_back_and_says_why(
    aws_groups: AwsGroups, word: str, kind: type[DiogenesError]
) -> None:
    name, clock = aws_groups.add(), FakeClock()
    for zone in ZONES:
        aws_groups.refuse(name, zone, word)
    started = clock.now
    try:
        with pytest.raises(kind):
            await cloud(CANNOT[0], aws_groups.client, clock).launch(launch(name))
    finally:
        aws_groups.use_up_refusals()
    assert await state(aws_groups) == (0, 0)
    assert clock.now - started <= 2


async def test_a_full_group_is_not_asked(aws_groups: AwsGroups) -> None:
    name = aws_groups.add(max_size=1)
    launcher = cloud(CANNOT[0], aws_groups.client)
    await launcher.launch(launch(name))
    with pytest.raises(LaunchMisconfigured, match="may hold 1"):
        await launcher.launch(launch(name, "call-2"))
    assert await state(aws_groups) == (1, 1)


class Barren(Scripted):
    """A group that takes every capacity, and gives neither an instance nor a reason."""

    def __init__(self, desired: int = 0) -> None:
        super().__init__(CANNOT[0])
        self.desired = [desired]

    async def set_desired_capacity(self, **asked: Any) -> None:
        self.desired.append(asked["DesiredCapacity"])

    async def describe_scaling_activities(self, **asked: Any) -> dict[str, Any]:
        return {"Activities": []}

    async def describe_auto_scaling_groups(self, **asked: Any) -> dict[str, Any]:
        group = {"AutoScalingGroupName": "group", "AvailabilityZones": [ZONES[0]], "MaxSize": 2}
        return {"AutoScalingGroups": [group | {"DesiredCapacity": self.desired[-1], "Instances": []}]}


async def test_waiting_for_an_instance_is_bounded_and_ends_with_the_old_capacity() -> None:
    client, clock = Barren(), FakeClock()
    started = clock.now
    with pytest.raises(NoCapacity, match="within 30 seconds"):
        await AwsCloud(cast(Any, client), "test", sleep=clock.sleep).launch(launch())
    assert (client.desired, clock.now - started) == ([0, 1, 0], 30)


async def test_a_capacity_raised_by_an_attempt_that_broke_off_is_not_raised_again() -> None:
    client = Barren(desired=1)
    with pytest.raises(NoCapacity):
        await AwsCloud(cast(Any, client), "test", sleep=FakeClock().sleep).launch(launch())
    assert client.desired == [1, 0]


async def test_a_group_that_went_away_is_a_mistake_of_configuration(aws_groups: AwsGroups) -> None:
    with pytest.raises(LaunchMisconfigured):
        await cloud(CANNOT[0], aws_groups.client).launch(launch("nowhere"))


# -- what instances look like ------------------------------------------------------------------------------------------


class Listing:
    def __init__(self, state: str, health: str) -> None:
        self._instance = {
            "InstanceId": "i-1",
            "AvailabilityZone": ZONES[0],
            "InstanceType": "g6.xlarge",
            "LifecycleState": state,
            "HealthStatus": health,
        }

    async def describe_auto_scaling_groups(self, **asked: Any) -> dict[str, Any]:
        tags = [{"Key": "diogenes:model", "Value": MODEL}]
        group = {"AutoScalingGroupName": "g", "AvailabilityZones": [], "MaxSize": 1, "DesiredCapacity": 1, "Tags": tags}
        page = {"AutoScalingGroups": [group | {"Instances": [self._instance]}]}
        return page if "NextToken" in asked else page | {"NextToken": "more"}


@pytest.mark.parametrize(
    ("state", "health", "alive", "leaving", "held"),
    [
        ("Pending", "Healthy", True, False, False),
        ("Pending:Wait", "Healthy", True, False, False),
        ("InService", "Healthy", True, False, False),
        ("InService", "Unhealthy", False, False, False),
        ("Terminating", "Healthy", False, True, False),
        ("Terminating:Wait", "Healthy", False, True, True),
        ("Terminating:Wait", "Unhealthy", False, True, True),  # it died; the hook waits all the same
        ("Terminating:Proceed", "Healthy", False, True, False),
        ("Terminated", "Healthy", False, True, False),
        ("Standby", "Healthy", False, False, False),
    ],
)
async def test_an_instance_is_alive_in_service_or_on_its_way_there(
    state: str, health: str, alive: bool, leaving: bool, held: bool
) -> None:
    told = await AwsCloud(cast(Any, Listing(state, health)), "test").groups()
    assert len(told) == 2  # both pages
    instances = [one for group in told for one in group.instances]
    assert [(one.alive, one.leaving, one.held) for one in instances] == [(alive, leaving, held)] * 2


# -- ending ------------------------------------------------------------------------------------------------------------


class Refusing:
    """An Auto Scaling client that ends nothing."""

    def __init__(self, code: str, message: str) -> None:
        self._error = refusing(code, message)

    async def terminate_instance_in_auto_scaling_group(self, **asked: Any) -> None:
        raise self._error

    async def complete_lifecycle_action(self, **asked: Any) -> None:
        raise self._error


def at_its_minimum(size: int) -> str:
    return f"Currently, desiredSize equals minSize ({size}). Terminating instance without replacement will violate"


async def test_a_group_that_shall_have_none_takes_its_instances_down_without_being_asked() -> None:
    await AwsCloud(cast(Any, Refusing("ValidationError", at_its_minimum(0))), "test").terminate(NodeId("i-1"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ValidationError", at_its_minimum(1)),  # somebody raised it by hand: the instance stays
        ("ScalingActivityInProgress", ""),
        ("AccessDenied", "not found"),
    ],
)
async def test_an_instance_that_was_not_terminated_is_tried_again(code: str, message: str) -> None:
    with pytest.raises(Unavailable):
        await AwsCloud(cast(Any, Refusing(code, message)), "test").terminate(NodeId("i-1"))


@pytest.mark.parametrize("code", ["AccessDenied", "ResourceContention", "ValidationError"])
async def test_an_instance_that_was_not_released_is_tried_again(code: str) -> None:
    with pytest.raises(Unavailable):
        await AwsCloud(cast(Any, Refusing(code, "something else")), "test").release(NodeId("i-1"), "group")
