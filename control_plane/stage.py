"""The control plane's ECS service and the load balancer's listener: StageHands over AWS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from control_plane.endings import ending_of, last_lines
from control_plane.errors import Unavailable
from control_plane.ports import Ending, Stage

if TYPE_CHECKING:
    import aioboto3
    from types_aiobotocore_ecs import ECSClient
    from types_aiobotocore_elbv2 import ElasticLoadBalancingv2Client

MAX_ENDINGS = 100
"""How many ended tasks are looked at, as many as one call tells of; ECS remembers each for an hour."""

_CONFIG = AioConfig(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True)
class StageNames:
    """Where the front is. The service's task definition family has the service's name, the cluster the namespace's."""

    cluster: str
    service: str
    listener_arn: str
    control_plane_group_arn: str  # target groups of the listener
    night_watch_group_arn: str


class AwsStage:
    """StageHands over ECS and Elastic Load Balancing. Raises Unavailable."""

    def __init__(self, ecs: ECSClient, balancing: ElasticLoadBalancingv2Client, names: StageNames) -> None:
        self._ecs = ecs
        self._balancing = balancing
        self._names = names

    async def look(self) -> Stage:
        names = self._names
        with _translated():
            services = await self._ecs.describe_services(cluster=names.cluster, services=[names.service])
            health = await self._balancing.describe_target_health(TargetGroupArn=names.control_plane_group_arn)
            listeners = await self._balancing.describe_listeners(ListenerArns=[names.listener_arn])
        if not services["services"] or not listeners["Listeners"]:
            raise Unavailable(f"the service {names.service} or its listener is not there")
        weights = {
            group["TargetGroupArn"]: group.get("Weight", 1)
            for action in listeners["Listeners"][0]["DefaultActions"]
            for group in action.get("ForwardConfig", {}).get("TargetGroups", [])
        }
        said = services["services"][0].get("events") or [{}]
        targets = [(each["Target"]["Id"], each["TargetHealth"]["State"]) for each in health["TargetHealthDescriptions"]]
        return Stage(
            desired=services["services"][0]["desiredCount"],
            healthy=any(state == "healthy" for _, state in targets),
            facing_control_plane=weights.get(names.control_plane_group_arn, 0) > 0,
            last_word=said[0].get("message", ""),
            draining=frozenset(address for address, state in targets if state == "draining"),
            standing=frozenset(address for address, state in targets if state != "draining"),
        )

    async def endings(self, since: float) -> Sequence[Ending]:
        names = self._names
        with _translated():
            ended = await self._ecs.list_tasks(
                cluster=names.cluster, serviceName=names.service, desiredStatus="STOPPED", maxResults=MAX_ENDINGS
            )
            if not ended["taskArns"]:
                return []
            told = await self._ecs.describe_tasks(cluster=names.cluster, tasks=ended["taskArns"])
        begun = [task for task in told["tasks"] if "createdAt" in task and task["createdAt"].timestamp() >= since]
        newest = sorted(begun, key=lambda task: task["createdAt"], reverse=True)
        log = last_lines(names.cluster)
        return [ending for task in newest if (ending := ending_of(task, log=log))]

    async def want(self, tasks: int) -> None:
        names = self._names
        with _translated():
            if tasks:
                # A task definition is changed at a wake only, so a deployment never ends a task that streams.
                await self._ecs.update_service(
                    cluster=names.cluster, service=names.service, desiredCount=tasks, taskDefinition=names.service
                )
            else:
                await self._ecs.update_service(cluster=names.cluster, service=names.service, desiredCount=0)

    async def face(self, *, control_plane: bool) -> None:
        names = self._names
        weights = {
            names.control_plane_group_arn: int(control_plane),
            names.night_watch_group_arn: int(not control_plane),
        }
        with _translated():
            await self._balancing.modify_listener(
                ListenerArn=names.listener_arn,
                DefaultActions=[
                    {
                        "Type": "forward",
                        "ForwardConfig": {
                            "TargetGroups": [
                                {"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()
                            ],
                            "TargetGroupStickinessConfig": {"Enabled": False, "DurationSeconds": 3600},
                        },
                    }
                ],
            )


@asynccontextmanager
async def open_stage(session: aioboto3.Session, names: StageNames) -> AsyncIterator[AwsStage]:
    """The stage with clients of its own."""
    async with session.client("ecs", config=_CONFIG) as ecs, session.client("elbv2", config=_CONFIG) as balancing:
        yield AwsStage(ecs, balancing, names)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ParamValidationError:
        raise  # a mistake of ours, not AWS's
    except ClientError as error:
        told = error.response["Error"]
        raise Unavailable(f"{error.operation_name} was refused: {told.get('Code')}: {told.get('Message')}") from error
    except (BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"ECS or the load balancer did not answer: {type(error).__name__}") from error
