"""The outside world of a process, opened: AWS, as the SDK's own variables point to it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from control_plane.adapters import Adapters, FrontAdapters
from control_plane.aws import AwsCloud, HttpProbe, open_autoscaling
from control_plane.aws_session import aws_session
from control_plane.departure import own_address
from control_plane.dynamo import (
    DynamoEvents,
    DynamoFence,
    DynamoFront,
    DynamoHolds,
    DynamoKeys,
    DynamoLaunches,
    DynamoLimits,
    DynamoModels,
    DynamoNodes,
    DynamoNotices,
    DynamoOverrides,
    DynamoSessions,
    DynamoUsage,
    DynamoWishes,
    open_dynamo,
)
from control_plane.ec2 import Ec2
from control_plane.effects import Stores
from control_plane.hub import Hub
from control_plane.hub_access import HubAccess
from control_plane.notice import Channel, NoticeAdapters
from control_plane.parameters import SsmEntrance, SsmWebhook
from control_plane.people import PeopleAdapters
from control_plane.provider_web import ProviderWeb
from control_plane.settings import Settings
from control_plane.sns import SnsTopic
from control_plane.stage import StageNames, open_stage
from control_plane.webhook import Webhook

if TYPE_CHECKING:
    import aioboto3
    from types_aiobotocore_dynamodb import DynamoDBClient


@asynccontextmanager
async def adapters(settings: Settings, *, streams: bool = False) -> AsyncIterator[Adapters]:
    """One client of each service, of one session; without a listener in the settings, nothing of the front.

    For who ``streams`` the largest client is made now: later, every stream would stand still meanwhile.
    """
    async with AsyncExitStack() as stack:
        yield await _opened(stack, settings, await _clients(stack), streams=streams)


@asynccontextmanager
async def adapters_and_notices(settings: Settings) -> AsyncIterator[tuple[Adapters, NoticeAdapters]]:
    """The same, and what sends notices; nothing is asked for that before there is one."""
    async with AsyncExitStack() as stack:
        clients = await _clients(stack)
        outside = await _opened(stack, settings, clients)
        yield (
            outside,
            NoticeAdapters(
                DynamoNotices(clients.dynamo, settings.namespace), await _channels(stack, settings, clients)
            ),
        )


@dataclass(frozen=True)
class _Clients:
    session: aioboto3.Session
    dynamo: DynamoDBClient
    http: aiohttp.ClientSession


async def _clients(stack: AsyncExitStack) -> _Clients:
    session = aws_session()
    dynamo = await stack.enter_async_context(open_dynamo(session))
    return _Clients(session, dynamo, await stack.enter_async_context(aiohttp.ClientSession()))


async def _channels(stack: AsyncExitStack, settings: Settings, clients: _Clients) -> Sequence[Channel]:
    channels: list[Channel] = []
    if settings.notification_topic_arn:
        channels.append(
            await stack.enter_async_context(SnsTopic(settings.notification_topic_arn, session=clients.session))
        )
    if settings.notification_webhook_parameter:
        target = await stack.enter_async_context(SsmWebhook(settings.namespace, session=clients.session))
        channels.append(Webhook(clients.http, target, clock=time.time, plain_http=settings.plain_http))
    return channels


async def _opened(stack: AsyncExitStack, settings: Settings, clients: _Clients, *, streams: bool = False) -> Adapters:
    namespace, session, dynamo, http = settings.namespace, clients.session, clients.dynamo, clients.http
    autoscaling = await stack.enter_async_context(open_autoscaling(session))
    ec2 = await stack.enter_async_context(Ec2(session))
    if streams:
        await ec2.make()
    entrance = await stack.enter_async_context(SsmEntrance(namespace, session=session))
    hub = await stack.enter_async_context(
        HubAccess(Hub.from_env(os.environ), token_parameter=settings.hf_token_parameter, session=session)
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
        hands = await stack.enter_async_context(open_stage(session, stage_names(settings)))
        address = await own_address(http, settings.host, os.environ)
        front = FrontAdapters(DynamoFront(dynamo, namespace), hands, DynamoHolds(dynamo, namespace), address)
    return Adapters(
        stores=stores,
        keys=DynamoKeys(dynamo, namespace),
        usage=DynamoUsage(dynamo, namespace),
        cloud=AwsCloud(autoscaling, namespace, ec2=ec2),
        probe=HttpProbe(http),
        front=front,
        events=DynamoEvents(dynamo, namespace, clock=time.time),
        hub=hub,
        shapes=hub.read,
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
