"""AWS Auto Scaling as the Cloud of ``ports``, and the engine's health check as its Probe.

A GPU is launched by ``LaunchInstances``: one synchronous call that answers with an instance or a reason, and leaves
nothing behind that could turn into an instance later. The bundled SDK is older than that operation: `aws_session` tells
of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from control_plane.books import Lifetime
from control_plane.ec2 import Ec2
from control_plane.errors import (
    DiogenesError,
    LaunchMisconfigured,
    LaunchRefused,
    NoCapacity,
    QuotaExceeded,
    Unavailable,
)
from control_plane.nodes import Node, NodeId
from control_plane.ports import Group, Instance, Launch
from control_plane.schema import MARKET_TAG, MODEL_TAG, TAG
from gpu_node.protocol import DRAIN_HOOK

if TYPE_CHECKING:
    import aioboto3
    from types_aiobotocore_autoscaling import AutoScalingClient
    from types_aiobotocore_autoscaling.type_defs import AutoScalingGroupTypeDef, InstanceTypeDef

Sleep = Callable[[float], Awaitable[None]]

_CONFIG = AioConfig(
    connect_timeout=3,
    read_timeout=30,  # a launch is answered only once EC2 has decided
    retries={"mode": "standard", "total_max_attempts": 3},
)

READ_LIMIT_S = 8.0
"""What only reads may take, all attempts together: who looks has more to do, and others wait for their sign of life."""

_LOOK_S = 2.0
_LOOKS = 15

_QUOTA = ("VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "InstanceLimitExceeded")
_MISCONFIGURED = (
    "AccessDenied",
    "AuthFailure",
    "IdempotentParameterMismatch",
    "InvalidAMIID",
    "InvalidBlockDeviceMapping",
    "InvalidGroup",
    "InvalidKeyPair",
    "InvalidLaunchTemplate",
    "InvalidParameter",
    "InvalidSecurityGroupID",
    "InvalidSubnetID",
    "MissingParameter",
    "OptInRequired",
    "UnauthorizedOperation",
    "UnsupportedOperation",
    "ValidationError",
)
_SCARCE = (
    "InsufficientInstanceCapacity",
    "UnfulfillableCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientFreeAddressesInSubnet",
    "SpotMaxPriceTooLow",
    "Unsupported",
)
_SENTENCES = {
    "do not have sufficient": "InsufficientInstanceCapacity",
    "current vCPU limit": "VcpuLimitExceeded",
}


@asynccontextmanager
async def open_autoscaling(session: aioboto3.Session) -> AsyncIterator[AutoScalingClient]:
    """The one Auto Scaling client of a process."""
    async with session.client("autoscaling", config=_CONFIG) as client:
        yield client


class AwsCloud:
    """Cloud over Auto Scaling; EC2 tells what an instance cost, and when."""

    def __init__(
        self, client: AutoScalingClient, namespace: str, *, ec2: Ec2 | None = None, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._client = client
        self._ec2 = ec2
        self._namespace = namespace
        self._sleep = sleep
        self._raising = asyncio.Lock()

    async def groups(self) -> Sequence[Group]:
        query: dict[str, Any] = {"Filters": [{"Name": f"tag:{TAG}", "Values": [self._namespace]}]}
        groups: list[Group] = []
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                while True:
                    page = await self._client.describe_auto_scaling_groups(**query)
                    groups += [_group(told) for told in page["AutoScalingGroups"] if MODEL_TAG in _tags(told)]
                    if not page.get("NextToken"):
                        return groups
                    query["NextToken"] = page["NextToken"]
        except (ClientError, BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
            raise _unanswered(error) from error

    async def launch(self, launch: Launch) -> Instance:
        """One instance in the launch's zone.

        A refusal with a code that is not listed here counts as NoCapacity, with its code and message: it is a
        refusal for certain, and another zone or another time may do better. A group that cannot launch directly
        (a warm pool, an API without the operation) is asked by its desired capacity instead; there a launch
        repeated after a crash is one more instance, which the reconciler takes down as nobody's.
        """
        try:
            answer = await self._client.launch_instances(
                AutoScalingGroupName=launch.group,
                RequestedCapacity=1,
                ClientToken=launch.token,
                AvailabilityZones=[launch.zone],
                RetryStrategy="none",
            )
        except (ClientError, BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
            if _cannot_launch_directly(error):
                return await self._launch_by_desire(launch)
            raise _call_refused(error) from error
        for told in answer.get("Instances", []):
            for instance_id in told.get("InstanceIds", []):
                return Instance(NodeId(instance_id), told["AvailabilityZone"], told["InstanceType"], alive=True)
        reasons = [(told.get("ErrorCode", ""), told.get("ErrorMessage", "")) for told in answer.get("Errors", [])]
        if not reasons:
            raise Unavailable(f"Auto Scaling answered neither an instance nor a reason for {launch.group}")
        raise _most_hopeful([_refusal(code, message) for code, message in reasons])

    async def terminate(self, node_id: NodeId) -> None:
        try:
            await self._client.terminate_instance_in_auto_scaling_group(
                InstanceId=node_id, ShouldDecrementDesiredCapacity=True
            )
        except (ClientError, BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
            if not _goes_anyway(error):
                raise _unanswered(error) from error

    async def release(self, node_id: NodeId, group: str) -> None:
        try:
            await self._client.complete_lifecycle_action(
                AutoScalingGroupName=group,
                LifecycleHookName=DRAIN_HOOK,
                InstanceId=node_id,
                LifecycleActionResult="CONTINUE",
            )
        except (ClientError, BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
            if not _not_held(error):
                raise _unanswered(error) from error

    async def lifetime(self, node_id: NodeId) -> Lifetime:
        return await self._ec2.lifetime(node_id) if self._ec2 else Lifetime()

    async def spot_usd_per_hour(self, instance_type: str, zone: str) -> float | None:
        return await self._ec2.spot_usd_per_hour(instance_type, zone) if self._ec2 else None

    # -- launching by desired capacity: one at a time, so that a new instance is ours --------------------------------

    async def _launch_by_desire(self, launch: Launch) -> Instance:
        async with self._raising:
            try:
                return await self._raise_and_watch(launch)
            except (ClientError, BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
                raise _call_refused(error) from error

    async def _raise_and_watch(self, launch: Launch) -> Instance:
        before = await self._one_group(launch.group)
        known = {instance.id for instance in before.instances}
        old_failures = await self._failures(launch.group)
        # A group that lacks an instance already was raised by an attempt that broke off: raising it again would
        # buy two.
        if before.desired <= sum(instance.alive for instance in before.instances):
            if before.desired >= before.max_size:
                raise LaunchMisconfigured("MaxSize", f"{before.name} may hold {before.max_size} instances and does.")
            await self._desire(launch.group, before.desired + 1)
        for _ in range(_LOOKS):
            new = _newcomer(await self._one_group(launch.group), known)
            failures = {} if new else await self._failures(launch.group)
            if new or failures.keys() - old_failures:
                break
            await self._sleep(_LOOK_S)
        return new or await self._take_back(launch.group, known, old_failures)

    async def _take_back(self, group: str, known: set[NodeId], old_failures: Mapping[str, str]) -> Instance:
        # The group would go on trying, and a GPU come hours later. The last look comes first: lowering the
        # desired capacity of a group that has what it wants would take down an instance of AWS's choice.
        failures = await self._failures(group)
        now = await self._one_group(group)
        if new := _newcomer(now, known):
            return new
        await self._desire(group, max(now.desired - 1, 0))
        messages = [message for key, message in failures.items() if key not in old_failures]
        if not messages:
            raise NoCapacity("NoInstance", f"{group} got no instance within {_LOOKS * _LOOK_S:.0f} seconds.")
        raise _most_hopeful([_refusal("", message) for message in messages])

    async def _one_group(self, name: str) -> Group:
        page = await self._client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        if not page["AutoScalingGroups"]:
            raise LaunchMisconfigured("GroupNotFound", f"There is no Auto Scaling group {name}.")
        return _group(page["AutoScalingGroups"][0])

    async def _desire(self, group: str, capacity: int) -> None:
        await self._client.set_desired_capacity(
            AutoScalingGroupName=group, DesiredCapacity=capacity, HonorCooldown=False
        )

    async def _failures(self, group: str) -> dict[str, str]:
        page = await self._client.describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=20)
        return {
            told["ActivityId"]: told.get("StatusMessage") or told.get("Description", "")
            for told in page["Activities"]
            if told["StatusCode"] in ("Failed", "Cancelled")
        }


class HttpProbe:
    """Probe over HTTP: 200 from the engine's ``/health`` in time."""

    def __init__(self, session: aiohttp.ClientSession, *, limit_s: float = 2.0) -> None:
        self._session = session
        self._limit = aiohttp.ClientTimeout(total=limit_s)

    async def __call__(self, node: Node) -> bool:
        host, port = node.endpoint
        if not host:
            return False
        try:
            async with self._session.get(
                f"http://{host}:{port}/health", timeout=self._limit, allow_redirects=False
            ) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


# -- what AWS tells, in our words ------------------------------------------------------------------------------------


def _group(told: AutoScalingGroupTypeDef) -> Group:
    tags = _tags(told)
    return Group(
        name=told["AutoScalingGroupName"],
        model=tags.get(MODEL_TAG, ""),
        market=tags.get(MARKET_TAG, "on-demand"),
        zones=tuple(told["AvailabilityZones"]),
        max_size=told["MaxSize"],
        desired=told["DesiredCapacity"],
        instances=tuple(map(_instance, told.get("Instances", []))),
    )


def _tags(told: AutoScalingGroupTypeDef) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in told.get("Tags", [])}


def _instance(told: InstanceTypeDef) -> Instance:
    state = str(told["LifecycleState"])
    return Instance(
        id=NodeId(told["InstanceId"]),
        zone=told["AvailabilityZone"],
        instance_type=told.get("InstanceType", ""),
        alive=(state.startswith("Pending") or state == "InService") and told["HealthStatus"] == "Healthy",
        leaving=state.startswith("Terminat"),
        held=state == "Terminating:Wait",
    )


def _newcomer(group: Group, known: set[NodeId]) -> Instance | None:
    return next((instance for instance in group.instances if instance.alive and instance.id not in known), None)


# -- what AWS refuses, in our words ----------------------------------------------------------------------------------


def _refusal(code: str, message: str) -> LaunchRefused:
    """The refusal that a code means; where the code says nothing, the one named inside the message."""
    for text in (code, message):
        for kind, names in ((QuotaExceeded, _QUOTA), (LaunchMisconfigured, _MISCONFIGURED), (NoCapacity, _SCARCE)):
            for name in names:
                if name in text:
                    return kind(code or name, message)
    for sentence, name in _SENTENCES.items():
        if sentence in message:
            return _refusal(name, message)
    return NoCapacity(code or "Unknown", message)


def _most_hopeful(refusals: Sequence[LaunchRefused]) -> LaunchRefused:
    # One entry an instance type: as long as one of them was only scarce, trying again can help.
    for kind in (NoCapacity, QuotaExceeded):
        for refusal in refusals:
            if isinstance(refusal, kind):
                return refusal
    return refusals[0]


def _call_refused(error: Exception) -> DiogenesError:
    if not isinstance(error, ClientError):
        return _unanswered(error)
    code, message = _told(error)
    if not any(name in code for name in (*_QUOTA, *_SCARCE, *_MISCONFIGURED)):
        return _unanswered(error)
    if "AccessDenied" in code or "Unauthorized" in code:
        message = f"Diogenes is not allowed to launch instances: {message}"
    return _refusal(code, message)


def _cannot_launch_directly(error: Exception) -> bool:
    if not isinstance(error, ClientError):
        return False
    code, message = _told(error)
    return code in ("UnsupportedOperation", "InvalidAction") or "warm pool" in message.lower()


def _goes_anyway(error: Exception) -> bool:
    """The instance is gone, or its group is told to have none: then it takes this one down without being asked."""
    return _invalid(error, "not found", "not part of", "no managed instance", "desiredsize equals minsize (0)")


def _not_held(error: Exception) -> bool:
    return _invalid(error, "no active lifecycle action", "not found")


def _invalid(error: Exception, *words: str) -> bool:
    """A ValidationError that says one of these; AWS has no finer codes here."""
    if not isinstance(error, ClientError):
        return False
    code, message = _told(error)
    return code == "ValidationError" and any(one in message.lower() for one in words)


def _unanswered(error: Exception) -> DiogenesError:
    if isinstance(error, ParamValidationError):
        raise error  # a mistake of ours, not AWS's
    if isinstance(error, ClientError):
        code, message = _told(error)
        return Unavailable(f"Auto Scaling refused a call: {code}: {message}")
    return Unavailable(f"Auto Scaling did not answer: {type(error).__name__}")


def _told(error: ClientError) -> tuple[str, str]:
    told = error.response["Error"]
    return told.get("Code", ""), told.get("Message", "")
