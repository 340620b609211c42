"""One schedule, run: everything of ours that is real, on virtual time, over an account in memory."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from typing import Any

from control_plane.adapters import Adapters, FrontAdapters
from control_plane.books import Limit
from control_plane.effects import Stores
from control_plane.errors import NoCapacity
from control_plane.exchange import Application
from control_plane.janitor import clean
from control_plane.nodes import NodeId
from control_plane.ports import Group, Instance, Launch, ModelRow
from control_plane.rates import micro
from gpu_node.spot import NONE, Notice
from tests.memory import MemoryFence, MemoryKeys, MemoryModels, MemoryNodes, MemoryProbe, MemoryWishes
from tests.memory_books import MemoryLimits, MemoryUsage
from tests.memory_people import MemoryPeople
from tests.night.stage import MemoryFront, MemoryHolds
from tests.simulation import schedule as events
from tests.simulation.balancer import Balancer
from tests.simulation.cloud import Cloud, Launches
from tests.simulation.crowd import Slots
from tests.simulation.function import function
from tests.simulation.machine import AgentTable, Machine, Wire
from tests.simulation.parsing import checked_once
from tests.simulation.people import People
from tests.simulation.reach import Reach
from tests.simulation.schedule import MODELS, Schedule
from tests.simulation.service import Service, Task
from tests.simulation.settings import (
    FUNCTION_LIMIT_S,
    IDLE_S,
    JANITOR_S,
    KEY,
    KEY_ROW,
    MAX_INSTANCES,
    SETTINGS,
    deployed,
)
from tests.simulation.short_ways import short_ways
from tests.simulation.timeline import EPOCH, Process, Timeline
from tests.simulation.watch import EFFECTS, Breach, Watch

ROUND_S = 10.0
REST_S = 1100.0  # from the end of demand until everything rests
EACH_DISRUPTION_S = 120.0


class World:
    """Everything there is in one schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.timeline = Timeline()
        self.rng = random.Random(schedule.seed + 1)
        self.settings = deployed(
            budget_usd=schedule.budget_usd,
            limited=schedule.limited,
            propagation_s=schedule.propagation_s,
            deregisters=schedule.deregisters,
        )
        self.history: list[tuple[float, events.Event]] = []  # what happened, and when
        self.over = False
        self.broken = False  # no task can be started any more
        self.launched = 0
        self.watch = Watch(self)
        self._effects: Counter[str] = Counter()
        self._races: dict[str, list[events.On]] = defaultdict(list)
        for event in schedule.events:
            if isinstance(event, events.On):
                self._races[event.method].append(event)
        self._aws = self.process("aws")
        self._numbers = itertools.count(1)
        self._processes: list[Process] = [self._aws]
        self.machines: dict[NodeId, Machine] = {}
        troubles = [event for event in schedule.events if isinstance(event, events.Trouble)]
        told, names = self.watch.effect, EFFECTS | self._races.keys()
        self.reach = Reach(rng=self.rng, troubles=troubles, background=self._aws, told=told, names=names)
        self._make_stores()
        self.service = Service(
            self._aws, self.rng, self._task, schedule.task_start_s, self.watch.front_changed, self._stopping, self._fell
        )
        self.service.delay_s = SETTINGS.deregistration_delay_s if schedule.deregisters else None
        self.balancer = Balancer(self._aws, self.rng, self.service, schedule.propagation_s, self._night)
        heard = (self.watch.broken, self.watch.told, self.watch.sent_on, self.watch.streamed)
        self.people = People(self.process("people"), KEY, self.balancer.route, *heard)

    def _make_stores(self) -> None:
        self.nodes, self.wishes, self.launches = MemoryNodes(), MemoryWishes(), Launches()
        self.fence, self.front, self.holds = MemoryFence(), MemoryFront(), MemoryHolds()
        self.usage, self.limits = MemoryUsage(), MemoryLimits()
        self.keys = MemoryKeys({KEY_ROW.key_hash: KEY_ROW})
        if cap := self.schedule.cap:
            self.limits.rows[cap.scope] = Limit(cap.scope, micro(cap.usd), micro(cap.usd))
        self.cloud = Cloud(self._aws, booted=self._boot, gone=self._gone)
        self.models = MemoryModels()
        for name in MODELS:
            config = {"name": name, "instanceTypes": ["g6.xlarge"], "idleTimeout": int(IDLE_S[name])}
            config |= {"maxInstances": MAX_INSTANCES[name]}
            markets = {"on-demand": f"g-{name}"}
            if self.schedule.spot:
                config["market"] = "spot-then-on-demand"
                markets["spot"] = f"g-{name}-spot"
            self.models.rows[name] = ModelRow(name, config)
            for market, group in markets.items():
                self.cloud.add_group(Group(group, name, market, ("a", "b"), max_size=9, desired=0), holds=True)

    # -- running it

    def run(self) -> Breach | None:
        """The first breach, or None."""
        with short_ways(), checked_once():
            self._run()
        return self.watch.breach

    def _run(self) -> None:
        for event in self.schedule.events:
            self.later(event.at, lambda event=event: self._happen(event))
        self.later(self.schedule.janitor_at, self._janitor)
        if self.schedule.guard:
            self.later(self.schedule.alone_at, self._leave_alone)
        last = max((event.at for event in self.schedule.events), default=0.0)
        quiet_at: float | None = None
        while self.watch.breach is None:
            self.timeline.run(self.timeline.now + ROUND_S)
            self.watch.round()
            if self.timeline.now < last or any(client.ending is None for client in self.people.clients):
                quiet_at = None
                continue
            quiet_at = quiet_at or self.timeline.now
            if self.watch.at_rest():
                break
            if self.timeline.now > quiet_at + self._rest_s:
                self.watch.say("rest", self._state())
        self._end()

    @property
    def _rest_s(self) -> float:
        return REST_S + self.schedule.outages_s + EACH_DISRUPTION_S * self.schedule.disruptions

    def _state(self) -> str:
        machines = [self.nodes.rows.get(one) for one in self.machines]
        return f"{self.front.front} desired={self.service.desired} facing={self.service.facing} machines={machines}"

    def _end(self) -> None:
        self.over = self.reach.over = True
        self.timeline.stopped = False
        for process in self._processes:
            process.bury()
        self.timeline.run(self.timeline.now + 300.0)
        for process in self._processes:
            process.bury()
        self.timeline.run(self.timeline.now + 300.0)

    def later(self, seconds: float, do: Any) -> None:
        self._aws.loop.call_later(seconds, do)

    def process(self, kind: str) -> Process:
        skew_s = self.rng.uniform(-1, 1) * self.schedule.skew_s if kind not in ("aws", "people") else 0.0
        process = Process(self.timeline, kind, skew_s=skew_s, complaints=self.complain)
        process.loop.connect = self._connect_of(process)
        if hasattr(self, "_processes"):
            self._processes.append(process)
        return process

    def complain(self, told: str) -> None:
        if not self.over:
            self.watch.say("fault", told)

    # -- events

    def _happen(self, event: events.Event) -> None:
        self.history.append((self.timeline.now, event))
        match event:
            case events.Ask():
                self.people.ask(event)
            case events.Scale():
                self.people.scale(event)
            case events.Outage(seconds=seconds, what=what):
                self.reach.outages.append(events.Outage(self.timeline.now, seconds, what))
            case events.Scarcity():
                self._scarce(event)
            case _:
                self._break(event)

    def _break(self, event: events.Event) -> None:
        match event:
            case events.Retire(rolling=rolling, overlap_s=overlap_s):
                self.service.retire(rolling=rolling, overlap_s=overlap_s)
            case events.CrashTask():
                for task in self.service.tasks[:1]:
                    task.process.crash()
            case events.KillMachine() | events.KillAgent():
                self._hit(event)
            case events.Interrupt(notice_s=notice_s):
                self._interrupt(notice_s)
            case events.BadStarts():
                self._spoil(event)

    def happened(self, method: str) -> None:
        """An effect took place."""
        self._effects[method] += 1
        for event in self._races.get(method, ()):
            if event.nth == self._effects[method]:
                self.later(event.delay_s, lambda event=event: self._happen(event.then))

    def _hit(self, event: events.KillMachine | events.KillAgent) -> None:
        there = [machine for machine in self.machines.values() if not machine.killed]
        if not there:
            return
        machine = self.rng.choice(there)
        if isinstance(event, events.KillAgent):
            machine.kill_agent()
            return
        machine.killed = True
        machine.power_off()
        self.later(self.rng.uniform(5.0, 60.0), lambda: self.cloud.set_alive(machine.instance.id, False))

    def _interrupt(self, notice_s: float | None) -> None:
        spot = [m for m in self.machines.values() if m.launch.market == "spot" and not m.killed and m.notice == NONE]
        if not spot:
            return
        machine = self.rng.choice(spot)
        now = EPOCH + self.timeline.now
        if notice_s is None:
            machine.notice = Notice(rebalance_at=now)
            return
        machine.notice = Notice(interruption_at=now + notice_s)
        self.later(notice_s, lambda: self._take_back(machine))

    def _take_back(self, machine: Machine) -> None:
        if machine.instance.id in self.machines:
            machine.killed = True
            machine.power_off()
            if self.cloud.replace(machine.instance.id):
                self.watch.replaced(machine)

    def _scarce(self, scarcity: events.Scarcity) -> None:
        for group, zone in self.cloud.zones:
            if group.endswith(scarcity.market):
                self.cloud.refusals[group, zone] = NoCapacity("InsufficientInstanceCapacity", "none now")
        self.later(scarcity.seconds, self.cloud.refusals.clear)

    def _spoil(self, bad: events.BadStarts) -> None:
        starts = self.service.starts
        if bad.times:
            starts.unlucky += [bad.fate] * bad.times
        else:
            starts.define(bad.fate, self.timeline.now)
            self.later(bad.seconds, lambda: starts.define("", self.timeline.now))

    def _leave_alone(self) -> None:
        """From now on one guard of three."""
        guard = self.schedule.guard
        self.people.all_hang_up()
        if guard == "reconciler":  # so there is one
            self.service.desired = 1
            self.service.settle()
        else:
            self.broken = self.service.broken = True
            for task in self.service.tasks:
                task.process.crash()
            for night in self.balancer.nights:
                night.process.crash()

    # -- processes of ours

    def adapters(self, process: Process, address: str = "") -> Adapters:
        port = self.reach.port

        def own_clock() -> None:
            self.fence.clock = process.clock

        stores = Stores(
            port(process, "nodes", self.nodes),
            port(process, "wishes", self.wishes),
            port(process, "launches", self.launches),
            port(process, "models", self.models),
            port(process, "fence", self.fence, before=own_clock),
        )
        store, hands = port(process, "front", self.front), port(process, "stage", self.service)
        holds = Slots(self.holds, self.watch.crowd, self.reach, process)
        return Adapters(
            stores,
            port(process, "keys", self.keys),
            port(process, "usage", self.usage),
            port(process, "cloud", self.cloud),
            MemoryProbe(),
            FrontAdapters(store, hands, holds, address),
            people=MemoryPeople().adapters,
            limits=port(process, "limits", self.limits) if self.schedule.cap else None,
        )

    def _token(self) -> str:
        return f"t{next(self._numbers)}"

    def _task(self) -> Task:
        process = self.process("task")
        address = f"task {len(self._processes)}"
        task = Task(process, self.settings, self.adapters(process, address), self._token)
        process.when_dead.append(lambda: None if task.killed else self.watch.crashes.append(self.timeline.now))
        return task

    def _stopping(self, task: Task, followed: bool) -> None:
        self.watch.stopping(asleep=task.asleep, followed=followed, calls=list(task.calls))

    def _janitor(self) -> None:
        if self.over:
            return
        self.later(JANITOR_S, self._janitor)
        self._clean()

    def _fell(self) -> None:
        """A task ended, and a rule calls the janitor. So it does for those that fell asleep, which is left out here:
        they are many, and it finds nothing."""
        self.later(self.rng.uniform(0.5, 3.0), self._clean)

    def _clean(self) -> None:
        if self.over:
            return
        if self.schedule.guard in ("reconciler", "lease") and self.timeline.now >= self.schedule.alone_at:
            return
        process = self.process("janitor")
        adapters = self.adapters(process)
        assert adapters.front
        work = process.spawn(clean(self.settings, adapters, adapters.front, clock=process.clock))
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # Lambda counts it, and that is all
        self.later(FUNCTION_LIMIT_S, process.crash)

    def _night(self) -> tuple[Process, Application]:
        process = self.process("night")
        with process.running():
            return process, function(self.settings, self.adapters(process), clock=process.clock)

    # -- machines

    def _boot(self, instance: Instance, launch: Launch) -> None:
        process = self.process("machine")
        number = len(self._processes)
        table = AgentTable(
            self.nodes,
            self.models,
            launch.group,
            down=lambda: self.reach.down("tables"),
            cloud_down=lambda: self.reach.down("cloud"),
            leave=self.cloud.vanish,
            strike=lambda name: self.reach.strike("machine", name),
            endless=self._endless,
        )
        machine = self.machines[instance.id] = Machine(
            instance,
            launch,
            process,
            table,
            boot_s=self.schedule.boot_s,
            load_s=self.schedule.load_s,
            leaving=lambda: self.cloud.leaving(instance.id),
            off=lambda: self._halted(instance.id),
            ip=f"10.0.{number // 250}.{number % 250}",
            launched_at=self.timeline.now,
        )
        self.launched += 1
        machine.power_on()

    def _gone(self, node_id: NodeId) -> None:
        """AWS ended it."""
        machine = self.machines.pop(node_id, None)
        if machine and machine.process.alive:
            self.watch.cut(machine, len(machine.engine.wires) if machine.engine else 0)
            machine.power_off()

    def _halted(self, node_id: NodeId) -> None:
        """Its agent ended; the machine goes off."""
        if node_id in self.machines:
            self.machines[node_id].power_off()
            self.cloud.set_alive(node_id, False)

    def _endless(self) -> bool:
        """Is the lease switched off?"""
        return self.schedule.guard in ("reconciler", "janitor")

    def _connect_of(self, process: Process) -> Any:
        async def connect(_loop: Any, factory: Any, host: str) -> Any:
            found = [machine for machine in self.machines.values() if machine.ip == host]
            if not found or not found[0].engine or not found[0].engine.healthy():
                raise OSError("nothing listens there")
            protocol = factory()
            wire = Wire(process, found[0].engine, protocol)
            protocol.connection_made(wire)
            return wire, protocol

        return connect
