"""A whole deployment on one virtual-time loop: the real control plane behind a real server, and a cloud in memory.

Instances boot by themselves, their engines listen on loopback addresses of their own, and clients are the real ones.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import openai

from control_plane.adapters import Adapters, FrontAdapters
from control_plane.app import ControlPlane
from control_plane.effects import Stores
from control_plane.http_server import configured, serving
from control_plane.hub import Access, Reading
from control_plane.model import Model
from control_plane.nodes import Node, NodeId
from control_plane.ports import Group, Instance
from control_plane.settings import Settings
from control_plane.traces import Export, Traces
from gpu_node.protocol import Failure, NodeState, Phase, PhaseRecord
from tests.memory import (
    MemoryEvents,
    MemoryFence,
    MemoryKeys,
    MemoryLaunches,
    MemoryModels,
    MemoryNodes,
    MemoryProbe,
    MemoryWishes,
)
from tests.memory_books import MemoryLimits, MemoryUsage
from tests.memory_cloud import MemoryCloud
from tests.memory_people import MemoryPeople
from tests.stories.engine import Behaviour, Engine

EPOCH = 1_795_000_000.0
MODEL = "org/model"
HEARTBEAT_S = 10.0
_ADDRESSES = itertools.count(1)


def _address(number: int) -> str:
    """A loopback address of its own, also beside another process that tells stories."""
    return f"127.{64 + os.getpid() % 128}.{number // 250}.{number % 250 + 1}"


@dataclass
class Boot:
    """How instances come up from now on."""

    machine_s: float = 20.0
    load_s: float = 40.0
    failure: Failure | None = None  # instead of becoming ready
    never: bool = False  # the agent never speaks
    log_tail: tuple[str, ...] = ()  # of the engine, when it fails


@dataclass
class World:
    """What a story looks at and meddles with."""

    settings: Settings
    nodes: MemoryNodes = field(default_factory=MemoryNodes)
    wishes: MemoryWishes = field(default_factory=MemoryWishes)
    launches: MemoryLaunches = field(default_factory=MemoryLaunches)
    models: MemoryModels = field(default_factory=MemoryModels)
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    usage: MemoryUsage = field(default_factory=MemoryUsage)
    limits: MemoryLimits = field(default_factory=MemoryLimits)
    fence: MemoryFence = field(default_factory=MemoryFence)
    events: MemoryEvents = field(default_factory=MemoryEvents)
    cloud: MemoryCloud = field(default_factory=MemoryCloud)
    probe: MemoryProbe = field(default_factory=MemoryProbe)
    people: MemoryPeople = field(default_factory=MemoryPeople)
    access: Access = Access.READ  # what the hub says of every repository
    shape: Reading = field(default_factory=lambda: Reading(Access.UNREACHABLE, "no story asks the hub"))
    shapes_read: int = 0
    boot: Boot = field(default_factory=Boot)
    behaviour: Behaviour = field(default_factory=Behaviour)
    engines: dict[NodeId, Engine] = field(default_factory=dict)
    api_key: str = ""
    port: int = 0
    plane: ControlPlane = field(init=False)  # the one that was made last
    slots: int = 1000  # requests that an engine works on at a time; more wait in its queue
    export: Export | None = None  # where traces go; None: nothing is traced
    front: FrontAdapters | None = None  # None: it never sleeps, and nothing stands before it
    replaced_by_group: list[NodeId] = field(default_factory=list)  # whose group would have bought another by itself
    _machines: dict[NodeId, asyncio.Task[None]] = field(default_factory=dict)

    def clock(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()

    # -- what a story does

    async def add_model(self, name: str = MODEL, **config: Any) -> None:
        described = {"name": name, "instanceTypes": ["g5.xlarge"], "idleTimeout": 300, **config}
        await self.models.seed(name, described)
        for market in Model.parse(described).market.ladder:
            suffix = "" if market == "on-demand" else f"-{market}"
            group = Group(f"group-{name}{suffix}", name, market, ("a", "b"), max_size=4, desired=0)
            self.cloud.add_group(group, holds=True)

    def remove_model(self, name: str = MODEL) -> None:
        """What `pulumi up` does for a model that left the configuration."""
        del self.models.rows[name]
        self.cloud.delete_group(f"group-{name}")

    def openai(self, **options: object) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.api_key, **options)  # type: ignore[arg-type]

    def http(self, **headers: str) -> httpx.AsyncClient:
        auth = {"authorization": f"Bearer {self.api_key}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return httpx.AsyncClient(base_url=self.url, headers=auth, timeout=1000.0)

    def kill_instance(self, node_id: NodeId) -> None:
        """Power off: engine and agent are gone, the group still lists it."""
        self._machines.pop(node_id).cancel()
        self.kill_engine(node_id)
        self.cloud.set_alive(node_id, False)

    def interrupt(self, node_id: NodeId, notice_s: float = 120.0) -> None:
        """AWS takes a Spot instance back: the node's agent has just learned it."""
        at = self.clock() + notice_s
        self.nodes.rows[node_id] = replace(self.nodes.rows[node_id], interruption_at=at)
        asyncio.get_running_loop().call_later(notice_s, self._take_back, node_id)

    def recommend_rebalance(self, node_id: NodeId) -> None:
        """AWS says that it may take it back."""
        self.nodes.rows[node_id] = replace(self.nodes.rows[node_id], rebalance_at=self.clock())

    def _take_back(self, node_id: NodeId) -> None:
        there = [one for group in self.cloud._groups.values() for one in group.instances if one.id == node_id]
        if there:
            self.replaced_by_group += [one.id for one in there if not one.leaving]
            self._machines.pop(node_id).cancel()
            self.kill_engine(node_id)
            self.cloud.vanish(node_id)

    def kill_engine(self, node_id: NodeId) -> None:
        self.probe.silent.add(node_id)
        self.engines[node_id].kill()

    def engine_dies(self, node_id: NodeId, why: Failure, *, told_after_s: float = 2.0) -> None:
        """Its agent lives, and tells why."""
        self.kill_engine(node_id)
        self._machines.pop(node_id).cancel()
        asyncio.get_running_loop().call_later(told_after_s, self._tell_death, node_id, why)

    def _tell_death(self, node_id: NodeId, why: Failure) -> None:
        row = self.nodes.rows[node_id]
        if row.state is NodeState.READY:
            self.nodes.rows[node_id] = replace(row, state=NodeState.FAILED, error=why, heartbeat_at=self.clock())
        self.cloud.vanish(node_id)

    # -- what a story looks at

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def living(self) -> Sequence[NodeId]:
        """Instances that cost money."""
        return [one.id for group in self.cloud._groups.values() for one in group.instances]

    def node(self, node_id: NodeId) -> Node:
        return self.nodes.rows[node_id]

    async def until_gone(self, limit_s: float) -> float:
        """Seconds until no instance is left. Fails after the limit."""
        start = self.clock()
        while self.living:
            assert self.clock() - start < limit_s, f"still there: {[self.nodes.rows.get(one) for one in self.living]}"
            await asyncio.sleep(0.5)
        return self.clock() - start

    async def until_ready(self, limit_s: float = 300.0) -> NodeId:
        start = self.clock()
        while True:
            ready = [node.id for node in self.nodes.rows.values() if node.state is NodeState.READY]
            if ready:
                return ready[0]
            assert self.clock() - start < limit_s
            await asyncio.sleep(0.2)

    # -- the cloud's side

    async def run_machines(self) -> None:
        """Boots what was launched, switches off what was terminated; until cancelled."""
        while True:
            there = {one.id: (one, group) for group in self.cloud._groups.values() for one in group.instances}
            for node_id in set(self._machines) - set(there):
                self._machines.pop(node_id).cancel()
                if node_id in self.engines:
                    self.engines[node_id].kill()
            for node_id, (instance, group) in there.items():
                if node_id not in self._machines and instance.alive:
                    self._machines[node_id] = asyncio.create_task(self._machine(instance, group))
            await asyncio.sleep(0.5)

    async def _machine(self, instance: Instance, group: Group) -> None:
        if self.boot.never:
            return
        boot = replace(self.boot)
        await asyncio.sleep(boot.machine_s)
        ip = _address(next(_ADDRESSES))
        self._report(instance, group, state=NodeState.BOOTING, ip=ip, phase=Phase.LOAD)
        ready_at = self.clock() + boot.load_s
        while self.clock() < ready_at:
            await asyncio.sleep(min(HEARTBEAT_S, ready_at - self.clock()))
            self._report(instance, group)
        if boot.failure:
            self._report(instance, group, state=NodeState.FAILED, error=boot.failure, log_tail=self.boot.log_tail)
            self.cloud.vanish(instance.id)  # the agent takes its machine down itself
            return
        engine = self.engines[instance.id] = Engine(ip, self.behaviour)
        await engine.start()
        self._report(instance, group, state=NodeState.READY, ready_at=self.clock())
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            running = min(engine.streaming, self.slots)
            self._report(instance, group, running=running, waiting=engine.streaming - running)

    def _report(self, instance: Instance, group: Group, *, phase: Phase | None = None, **changes: object) -> None:
        """What the agent's conditional write does."""
        now = self.clock()
        row = self.nodes.rows.get(instance.id) or Node(
            instance.id,
            group.model,
            NodeState.PENDING,
            group.name,
            instance.zone,
            instance.instance_type,
            group.market,
            now,
            now,
        )
        if row.state in (NodeState.DRAINING, NodeState.TERMINATED):
            changes.pop("state", None)
        if phase:
            changes["phases"] = (*row.phases, PhaseRecord(phase, now))
        self.nodes.rows[instance.id] = replace(row, heartbeat_at=now, **changes)  # type: ignore[arg-type]

    # -- the control plane

    def adapters(self) -> Adapters:
        stores = Stores(self.nodes, self.wishes, self.launches, self.models, self.fence)
        return Adapters(
            stores,
            self.keys,
            self.usage,
            self.cloud,
            self.probe,
            self.front,
            limits=self.limits,
            events=self.events,
            people=self.people.adapters,
            hub=self._asked,
            shapes=self._shape_read,
        )

    async def _asked(self, repository: str, revision: str | None) -> Reading:
        return Reading(self.access, repository)

    async def _shape_read(self, repository: str, revision: str | None) -> Reading:
        self.shapes_read += 1
        return self.shape

    @asynccontextmanager
    async def control_plane(self) -> AsyncIterator[ControlPlane]:
        """One control plane, up and answering; stopped hard at the end."""
        traces = Traces(self.export, clock=self.clock, entropy=os.urandom) if self.export else None
        plane = self.plane = ControlPlane(self.settings, self.adapters(), clock=self.clock, traces=traces)
        # The first as in production: else it closes in the moment in which a story asks again.
        config = configured(plane.app, timeout_keep_alive=75, timeout_graceful_shutdown=1)
        listening = socket.create_server(("127.0.0.1", 0), backlog=config.backlog)
        self.port = listening.getsockname()[1]
        async with serving(config, listening):
            yield plane


@asynccontextmanager
async def deployment(
    settings: Settings | None = None,
    *,
    export: Export | None = None,
    front: FrontAdapters | None = None,
    **model: Any,
) -> AsyncIterator[World]:
    """A world with one model, one key and a control plane that has ticked once."""
    world = World(settings or Settings(), export=export, front=front)
    world.fence.clock = world.clock
    await world.add_model(**model)
    machines = asyncio.create_task(world.run_machines())
    try:
        async with world.control_plane() as plane:
            world.api_key, _ = await plane.keys.create(email="ann@example.com", name="story")
            await asyncio.sleep(1.0)
            yield world
    finally:
        machines.cancel()
        for task in world._machines.values():
            task.cancel()
        for engine in world.engines.values():
            engine.kill()
