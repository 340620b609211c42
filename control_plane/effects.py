"""Carries out what ``plan`` decided: each action is one or two calls, and doing it twice is doing it once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from control_plane.actions import (
    Abandon,
    Action,
    Adopt,
    Bury,
    Claim,
    CountFailure,
    Done,
    Drain,
    Evict,
    Fail,
    Forgive,
    Fulfil,
    HandOver,
    Hold,
    NoteStart,
    Refuse,
    Release,
    Renew,
    Repeat,
    Start,
    Terminate,
)
from control_plane.bookkeeper import Bookkeeper
from control_plane.catalogue import Catalogue
from control_plane.errors import LaunchRefused
from control_plane.fleet import Fleet
from control_plane.launcher import CannotLaunch, Launcher, Tenure, unfenced
from control_plane.model import Model
from control_plane.ports import Clock, Cloud, Fence, Group, LaunchStore, ModelStore, NodeStore, WishStore
from control_plane.repositories import unasked
from gpu_node.protocol import Failure, NodeState

NodeAction = Drain | HandOver | Fail | Terminate | Bury | Renew
ModelAction = NoteStart | Forgive | Hold | CountFailure | Refuse | Fulfil
CloudAction = Abandon | Evict | Release
LauncherAction = Start | Repeat | Claim | Adopt

Told = Callable[[Done], None]
"""Hears of every action that took effect, at once."""

Trouble = Callable[[Model], Awaitable[Failure | None]]


@dataclass(frozen=True)
class Stores:
    """The tables that a tick reads and writes."""

    nodes: NodeStore
    wishes: WishStore
    launches: LaunchStore
    models: ModelStore
    fence: Fence


class Effects:
    """The one window outward for decisions. Raises Stale and Unavailable: the next tick decides anew."""

    def __init__(
        self,
        stores: Stores,
        cloud: Cloud,
        fleet: Fleet,
        launcher: Launcher,
        catalogue: Catalogue,
        books: Bookkeeper,
        *,
        clock: Clock,
        told: Told = lambda _: None,
        trouble: Trouble = unasked,
    ) -> None:
        """``trouble`` says why a node of a model could only fail, before it is launched."""
        self._stores = stores
        self._cloud = cloud
        self._fleet = fleet
        self._launcher = launcher
        self._catalogue = catalogue
        self._books = books
        self._clock = clock
        self._told = told
        self._trouble = trouble

    async def apply(self, action: Action, groups: Sequence[Group], *, hold: Tenure = unfenced) -> None:
        """``hold`` is asked again within what takes long: see Launcher."""
        done, began = Done(action), self._clock()
        match action:
            case Drain() | HandOver() | Fail() | Terminate() | Bury() | Renew():
                await self._to_node(action)
            case NoteStart() | Forgive() | Hold() | CountFailure() | Refuse() | Fulfil():
                await self._to_model(action)
            case Abandon() | Evict() | Release():
                await self._to_cloud(action)
            case Start() | Repeat() | Claim() | Adopt():
                done = await self._to_launcher(action, groups, hold)
            case _:
                assert_never(action)
        self._told(replace(done, began=began))

    async def _to_node(self, action: NodeAction) -> None:
        node = action.node
        match action:
            case Drain(reason=reason):
                # Out of rotation first: what is leased between the two writes only makes the drain longer.
                self._fleet.withdraw(node.id)
                await self._stores.nodes.move(node.id, node.state, NodeState.DRAINING, at=self._clock(), reason=reason)
                if node.interruption_at:
                    self._launcher.shun(node)
            case HandOver():
                self._fleet.hand_over(node.id)
                return
            case Fail(failure=failure):
                self._fleet.withdraw(node.id)
                await self._stores.nodes.move(
                    node.id, node.state, NodeState.FAILED, at=self._clock(), reason=failure.message, error=failure
                )
            case Terminate():
                await self._cloud.terminate(node.id)
                return  # it takes the cloud its time to be gone
            case Bury():
                await self._books.close(node)  # first: its row is the only record of what it costs
                await self._stores.nodes.move(
                    node.id, node.state, NodeState.TERMINATED, at=self._clock(), reason=node.reason
                )
                return
            case Renew(lease_until=until, last_request_at=last):
                await self._stores.nodes.renew(node.id, lease_until=until, last_request_at=last)
                return
        self._fleet.disturbed.set()

    async def _to_model(self, action: ModelAction) -> None:
        match action:
            case NoteStart(model, boot, forgives):
                await self._stores.models.started(model, boot, forgives=forgives)
            case Forgive(model, failed_at):
                await self._stores.models.forgive(model, failed_at=failed_at)
            case Hold(wish):
                await self._stores.wishes.ask(wish)
            case CountFailure(model, node, failure, count, log_tail):
                await self._stores.models.failed(
                    model, failure, node=node, at=self._clock(), count=count, log_tail=log_tail
                )
                self._fleet.disturbed.set()
            case Refuse(model, failure, wish, before):
                self._fleet.refuse(model, failure, before=before)
                if wish:
                    await self._stores.wishes.drop(wish)
            case Fulfil(wish):
                await self._stores.wishes.drop(wish)

    async def _to_cloud(self, action: CloudAction) -> None:
        match action:
            case Abandon(launch):
                await self._stores.launches.settle(launch.token)
            case Evict(instance):
                await self._cloud.terminate(instance.id)
            case Release(group, instance):
                await self._cloud.release(instance.id, group.name)
                return  # it takes the cloud its time to be gone
        self._fleet.disturbed.set()

    async def _to_launcher(self, action: LauncherAction, groups: Sequence[Group], hold: Tenure) -> Done:
        """What was really done."""
        match action:
            case Start():
                return await self._start(action, groups, hold)  # the reconciler is disturbed when the launch is over
            case Repeat():
                done = await self._repeat(action)
            case Claim(launch, node):
                await self._launcher.claim(launch, node)
                done = Done(action, node.id)
            case Adopt():
                done = await self._adopt(action)
        self._fleet.disturbed.set()
        return done

    async def _start(self, start: Start, groups: Sequence[Group], hold: Tenure) -> Done:
        model = self._catalogue.models[start.model]
        try:
            if failure := await self._trouble(model):
                raise CannotLaunch(failure)
            instance = await self._launcher.start(model, groups, start.cause, hold=hold)
        except CannotLaunch as error:
            # A refused launch counts as no failed start, but is answered from memory for a while.
            await self._stores.models.refused(start.model, error.failure, at=self._clock())
            return Done(start, refusal=error.failure)
        return Done(start, instance.id)

    async def _repeat(self, repeat: Repeat) -> Done:
        launch = repeat.launch
        try:
            instance = await self._launcher.repeat(self._catalogue.models[launch.model], launch)
        except LaunchRefused as error:
            return Done(repeat, refusal=Failure(error.code, error.message))
        except CannotLaunch as error:
            await self._stores.models.refused(launch.model, error.failure, at=self._clock())
            return Done(repeat, refusal=error.failure)
        return Done(repeat, instance.id)

    async def _adopt(self, adopt: Adopt) -> Done:
        group, instance = adopt.group, adopt.instance
        adopted = await self._launcher.adopt(
            instance, model=group.model, group=group.name, market=group.market, cause=adopt.cause
        )
        if not adopted:
            return Done(Evict(instance))
        return Done(adopt)
