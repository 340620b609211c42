"""The outside world of a process, opened: AWS, as the SDK's own variables point to it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from control_plane.app import Adapters, FrontAdapters
from control_plane.aws import AwsCloud, HttpProbe, open_autoscaling
from control_plane.dynamo import (
    DynamoEvents,
    DynamoFence,
    DynamoFront,
    DynamoKeys,
    DynamoLaunches,
    DynamoLimits,
    DynamoModels,
    DynamoNodes,
    DynamoOverrides,
    DynamoSessions,
    DynamoUsage,
    DynamoWishes,
    open_dynamo,
)
from control_plane.ec2 import open_ec2
from control_plane.effects import Stores
from control_plane.hub import Hub
from control_plane.hub_access import HubAccess
from control_plane.parameters import SsmEntrance
from control_plane.people import PeopleAdapters
from control_plane.provider_web import ProviderWeb
from control_plane.settings import Settings
from control_plane.stage import StageNames, open_stage


@asynccontextmanager
async def adapters(settings: Settings) -> AsyncIterator[Adapters]:
    """One client of each service; without a listener in the settings, nothing of the front."""
    namespace = settings.namespace
    async with AsyncExitStack() as stack:
        dynamo = await stack.enter_async_context(open_dynamo())
        autoscaling = await stack.enter_async_context(open_autoscaling())
        ec2 = await stack.enter_async_context(open_ec2())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        entrance = await stack.enter_async_context(SsmEntrance(namespace))
        hub = await stack.enter_async_context(
            HubAccess(Hub.from_env(os.environ), token_parameter=settings.hf_token_parameter)
        )
        stores = Stores(
            nodes=DynamoNodes(dynamo, namespace),
            wishes=DynamoWishes(dynamo, namespace),
            launches=DynamoLaunches(dynamo, namespace),
            models=DynamoModels(dynamo, namespace),
            fence=DynamoFence(dynamo, namespace, clock=time.time),
        )
        front = None
        if settings.listener_arn:
            hands = await stack.enter_async_context(open_stage(stage_names(settings)))
            front = FrontAdapters(DynamoFront(dynamo, namespace), hands)
        yield Adapters(
            stores=stores,
            keys=DynamoKeys(dynamo, namespace),
            usage=DynamoUsage(dynamo, namespace),
            cloud=AwsCloud(autoscaling, namespace, ec2=ec2),
            probe=HttpProbe(http),
            front=front,
            events=DynamoEvents(dynamo, namespace, clock=time.time),
            hub=hub,
            people=PeopleAdapters(
                entrance=entrance,
                overrides=DynamoOverrides(dynamo, namespace),
                sessions=DynamoSessions(dynamo, namespace),
                web=ProviderWeb(http, plain_http=settings.plain_http),
            ),
            limits=DynamoLimits(dynamo, namespace),
        )


def stage_names(settings: Settings) -> StageNames:
    return StageNames(
        cluster=settings.cluster,
        service=settings.service,
        listener_arn=settings.listener_arn,
        control_plane_group_arn=settings.control_plane_group_arn,
        night_watch_group_arn=settings.night_watch_group_arn,
    )
