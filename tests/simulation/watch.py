"""What must hold in every schedule, looked at all the time. The first breach ends the schedule.

wish       every question is answered, refused with a reason, or hung up, within a bound; no answer is without a reason;
           whoever waits in a task has a wish in the table; no lack of capacity is told of a place that was not asked
stream     no stream is cut but by what the schedule broke; one that ends well has all of its text, once, as one answer
reconciler only the holder of the newest epoch acts (for HAND_OVER_S after losing it, a tick may still end), no night
           watch or janitor takes the epoch of one who is at work, each launch has its intent, and nobody has more
           nodes that serve or start than are wanted, but at a hand-over
node       no instance lives without demand for longer than its bound; a node that AWS takes back left its group before
front      state and listener agree, but for a bound; nothing turns to a task that is not healthy
money      nothing is launched that the month's budget has no room for, whatever it is used for; who is beyond a hard
           cap is told so, and neither launches anything nor uses what runs
wake       one that does not succeed is given up in time, and only of such a one is anybody told; until one succeeds
           nothing is launched for those that follow
rest       when demand has ended everything ends: asleep, no task, no instance
fault      nothing of ours raises what it did not mean to
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.budget import CODE as BUDGET
from control_plane.failures import NOT_STARTING
from control_plane.ports import FrontState
from control_plane.reconciler import ABANDONED_S
from gpu_node.protocol import NodeState
from gpu_node.spot import NONE
from tests.simulation.call import Answer, Call
from tests.simulation.cloud import OF_ITSELF
from tests.simulation.crowd import Crowd
from tests.simulation.excuses import PIECE, Excuses
from tests.simulation.ladders import Ladders
from tests.simulation.machine import PIECES, ROLE, Machine
from tests.simulation.money import Money
from tests.simulation.people import Client
from tests.simulation.reasons import Reasons
from tests.simulation.schedule import DISRUPTIONS, Interrupt, Outage
from tests.simulation.settings import BOUND_S, IDLE_S, MAX_INSTANCES, SETTINGS
from tests.simulation.timeline import EPOCH, Process, Timeline
from tests.simulation.wakes import Wakes

ACTS = frozenset({"cloud.launch", "cloud.terminate", "nodes.move", "launches.intend"})
_TURNS = ("stage.face", "front.move")
EFFECTS = ACTS | {
    "fence.take",
    "fence.take_over",
    "fence.hold",
    "fence.release",
    "wishes.ask",
    "models.refused",
    *_TURNS,
}
HAND_OVER_S = 30.0
PATIENCE_S = ABANDONED_S - 5.0  # clocks differ by as much as 4 s
UNWISHED_S = 45.0  # from the beginning of a wait until its wish stands, without a disruption
ASKED_S = 300.0  # beyond the longest wait: the wake, the retries of a library, and the answer
EACH_ASKED_S = 100.0  # for each disruption
UPLOADS = 6  # of one question: a body is sent again with every redirect, and with every retry
ALONE_S = 600.0  # what a single guard may take longer
FRONT_S = 240.0
HEALTH_LAG_S = 15.0
QUEUE_S = 180.0  # after a queue, another node may still be on its way
_ANSWER = re.compile(rb'"id":"c(\d+)"')
SERVING = frozenset({NodeState.PENDING, NodeState.BOOTING, NodeState.READY})


@dataclass(frozen=True)
class Breach:
    """An invariant that did not hold."""

    at: float
    invariant: str
    told: str

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at:.1f}: {self.told}"


class Watch:
    """Hears of everything; ``breach`` is the first that was wrong."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._timeline: Timeline = world.timeline
        self.breach: Breach | None = None
        self.crowd = Crowd(world, self.say)
        self.money = Money(world, self.say, self._torn)
        self.wakes = Wakes(world, self.say)
        self.ladders = Ladders(world, self.say)
        self.excuses, self.reasons = Excuses(world, self), Reasons(world)
        self.demand_at: dict[str, float] = {}
        self.hand_overs: list[float] = []
        self.doubles = 0
        self.crashes: list[float] = []
        self.overdue = False  # a node drained for as long as it may, and had streams still
        self.stops: list[float] = []
        self._epochs: dict[Process, int] = {}
        self._signs_at: dict[Process, float] = {}
        self._unwished_since: dict[tuple[Process, str], float] = {}
        self._superseded: dict[Process, float] = {}
        self._wanted: dict[str, list[tuple[float, int]]] = {}
        self._odd_since: float | None = None
        self._healthy_at = 0.0
        self._asked: dict[str, float] = {}
        self._queued_at: dict[str, float] = {}

    def say(self, invariant: str, told: str) -> None:
        if self.breach is None and not self._world.over:
            self.breach = Breach(self._now, invariant, told)
            self._timeline.stopped = True

    # -- effects

    def effect(self, process: Process, name: str, args: tuple[Any, ...], answer: Any) -> None:
        match name:
            case "fence.take" | "fence.take_over":
                self._took(process, answer.epoch)
            case "fence.hold":
                self._signs_at[process] = self._now
            case "fence.release":
                self._epochs.pop(process, None)
            case "wishes.ask":
                self._asked[args[0].model] = self._now
                self._wanted.setdefault(args[0].model, []).append((self._now, args[0].desired))
            case _ if name in _TURNS:
                self.front_changed()
                self.wakes.moved()
        if name in ACTS and not self._world.reach.belated:
            self._superfluous(process, name)
            if name == "cloud.launch":
                self._launched(process, args[0], answer)
        self.ladders.heard(process, name, args)
        self._world.happened(name)

    def _took(self, process: Process, taken: int) -> None:
        if process.kind != "task":
            for other in self._epochs.keys() - {process}:
                if self._signs_at.get(other, -PATIENCE_S) > self._now - PATIENCE_S and other not in self._superseded:
                    self.say("reconciler", f"{process.kind} took the epoch from a {other.kind} that is at work")
        self._signs_at[process] = self._now
        for other, epoch in self._epochs.items():
            if epoch < taken:
                self._superseded.setdefault(other, self._now)
        self._epochs[process] = taken
        self._superseded.pop(process, None)
        self.hand_overs.append(self._now)

    def _superfluous(self, process: Process, name: str) -> None:
        lost_at = self._superseded.get(process)
        if lost_at is not None and self._now > lost_at + HAND_OVER_S:
            self.say("reconciler", f"{name} by a {process.kind} {self._now - lost_at:.0f} s after it lost its epoch")

    def _launched(self, process: Process, launch: Any, instance: Any) -> None:
        launches = self._world.launches
        if launch.token not in launches.rows and launch.token not in launches.settled:
            self.say("reconciler", f"{process.kind} launched without an intent")
        if process not in self._epochs and process.alive and process.kind != "task":
            self.say("reconciler", f"{process.kind} launched without an epoch")
        self.wishes()
        self.money.launched(launch)
        self.wakes.launched(process, launch, instance)
        serving = [m for m in self._world.machines.values() if m.launch.model == launch.model and self._serves(m)]
        wanted = max((n for at, n in self._wanted.get(launch.model, []) if at >= self._now - 60), default=1)
        if self._queued_at.get(launch.model, -QUEUE_S) > self._now - QUEUE_S or self._takes_back(launch.model):
            wanted = MAX_INSTANCES[launch.model]
        if len(serving) > max(1, wanted):
            if any(at > self._now - HAND_OVER_S for at in self.hand_overs[1:]):
                self.doubles += 1
            else:
                self.say("reconciler", f"{len(serving)} nodes of {launch.model}, wanted {wanted}")

    def _takes_back(self, model: str) -> bool:
        """Does AWS take a node back that was at work? It has another in its place, if there were two."""
        leaving = [m for m in self._world.machines.values() if m.launch.model == model and m.notice != NONE]
        rows = [self._world.nodes.rows.get(machine.instance.id) for machine in leaving]
        return any(row is not None and row.running + row.waiting for row in rows)

    def _torn(self) -> bool:
        """May two act, since the one has not learned of the other?"""
        return any(at > self._now - HAND_OVER_S for at in self._superseded.values())

    def _serves(self, machine: Machine) -> bool:
        row = self._world.nodes.rows.get(machine.instance.id)
        gone = machine.killed or machine.agent_killed or not machine.process.alive or machine.leaving()
        gone = gone or machine.notice != NONE or machine.launch.token.startswith(OF_ITSELF)
        return not gone and (row is None or row.state in SERVING)

    # -- demand

    def wishes(self) -> None:
        """Notes which demand stands now."""
        now = self._now
        for wish in self._world.wishes.rows.values():
            self._wanted.setdefault(wish.model, []).append((now, wish.desired))
            until = max(wish.hold_until, wish.keep_awake_until) - EPOCH
            if wish.desired and until > 0:
                self.demand_at[wish.model] = max(self.demand_at.get(wish.model, 0.0), min(until, now))
        for client in self._world.people.clients:
            if client.ending is None or client.ended_at > now - 11.0:
                ended = now if client.ending is None else client.ended_at
                self.demand_at[client.ask.model] = max(self.demand_at.get(client.ask.model, 0.0), ended)

    # -- rounds

    def round(self) -> None:
        self.wishes()
        for machine in list(self._world.machines.values()):
            self._bounded(machine)
            load = machine.engine.load() if machine.engine else None
            if load and load.waiting:
                self.queued(machine.launch.model)
        for client in self._world.people.clients:
            if client.ending is None:
                self._answered_in_time(client)
        self._unwished()
        self.money.round()
        self.wakes.round()
        self.front_changed()

    def _answered_in_time(self, client: Client) -> None:
        limit = SETTINGS.max_wait_s + ASKED_S + EACH_ASKED_S * self._world.schedule.disruptions
        limit += UPLOADS * client.ask.upload_s
        if self._now > client.began_at + limit:
            self.say("wish", f"open for {limit:.0f} s: {client.ask} tried {client.tried[-6:]}")

    def _unwished(self) -> None:
        """Who waits in a task that has a wish in the table: another task would not know of them else."""
        waiting = {
            (task.process, model)
            for task in self._world.service.tasks
            if task.up and task.plane
            for model, count in task.plane.fleet.waiters.items()
            if count and not self._stands(model)
        }
        self._unwished_since = {key: self._unwished_since.get(key, self._now) for key in waiting}
        if not waiting:
            return
        bound = UNWISHED_S + self._outages_s + 2 * ABANDONED_S * self._world.schedule.disruptions
        for (_, model), since in self._unwished_since.items():
            if self._now > since + bound:
                self.say("wish", f"somebody waits for {model}, and no wish stood for {self._now - since:.0f} s")

    def _stands(self, model: str) -> bool:
        wish = self._world.wishes.rows.get(model)
        return wish is not None and wish.hold_until - EPOCH > self._now

    def _bounded(self, machine: Machine) -> None:
        schedule = self._world.schedule
        model = machine.launch.model
        since = max(self.demand_at.get(model, 0.0), machine.launched_at, schedule.alone_at)
        bound = IDLE_S[model] + self._world.settings.drain_timeout_s + BOUND_S
        bound += ALONE_S if schedule.guard or self.wakes.given_up else 0.0
        bound += schedule.outages_s
        if machine.process.alive and self._now > since + bound:
            row = self._world.nodes.rows.get(machine.instance.id)
            self.say("node", f"{machine.instance.id} lives {self._now - since:.0f} s after demand ended: {row}")

    def front_changed(self) -> None:
        """Compare state, listener and health."""
        world = self._world
        if world.service.healthy:
            self._healthy_at = self._now
        elif world.service.facing and world.service.facings[-1][0] == self._now > self._healthy_at + HEALTH_LAG_S:
            self.say("front", "turned to a task that is not healthy")
        odd = world.service.facing is not (world.front.front.state is FrontState.AWAKE) or (
            world.service.facing and not world.service.healthy
        )
        if not odd or world.broken:
            self._odd_since = None
        elif self._odd_since is None:
            self._odd_since = self._now
        elif self._now > self._odd_since + FRONT_S + self._outages_s:
            self.say("front", f"{world.front.front.state} and facing={world.service.facing} for {FRONT_S:.0f} s")

    def at_rest(self) -> bool:
        world = self._world
        if world.broken:
            return not any(machine.process.alive for machine in world.machines.values())
        nothing = not world.machines and not world.cloud.living
        asleep = world.front.front.state is FrontState.ASLEEP and not world.service.facing
        running = [task for task in world.service.tasks if not task.ended and task.process.alive]
        return nothing and asleep and not world.service.desired and not running

    # -- what clients and machines tell

    def told(self, client: Client, code: str) -> None:
        """A reason must be one that the schedule gives."""
        if code == "model_starting" and (client.ask.wait_s is not None or self.crowd.turned_away(client)):
            return
        if code == "engine_lost" and self.overdue:
            return
        if code == BUDGET and self.money.tight:
            return
        if code == NOT_STARTING:
            if not self.wakes.excuses():
                self.say("wake", f"{client.ask} was told {code}, and tasks start; tried {client.tried[-6:]}")
            return
        if not self.reasons.given(client, code):
            self.say("wish", f"{client.ask} was refused with {code}; tried {client.tried[-6:]}")

    def broken(self, client: Client, answer: Answer, call: Call) -> None:
        """An answer without a reason, or with the reason that something of ours went away."""
        if not self.excuses.hold(answer, call):
            told = f"{answer.by}:{answer.status} {answer.body[-160:]!r} whole={answer.whole}"
            self.say("wish", f"{client.ask} got {told}; tried {client.tried[-6:]}")

    def sent_on(self, client: Client, began_at: float) -> None:
        """The night watch held somebody since then, and told them to ask again."""
        if self._asked.get(client.ask.model, -1.0) < began_at:
            self.say("wish", f"{client.ask} was held by the night watch, and no wish was written")

    def streamed(self, client: Client, answer: Answer) -> None:
        """Whatever its engines went through, it is one answer."""
        body = answer.body
        engines = set(_ANSWER.findall(body))
        if body.count(PIECE) != PIECES or body.count(ROLE[:-1]) != 1 or len(engines) != 1:
            self.say("stream", f"{client.ask} is not one answer: {body!r}")

    def replaced(self, machine: Machine) -> None:
        """AWS took a node back whose group still counted it, and bought another."""
        others = [event for event in self._world.schedule.all if isinstance(event, DISRUPTIONS)]
        if all(isinstance(event, Interrupt) for event in others) and not self._world.schedule.guard:
            row = self._world.nodes.rows.get(machine.instance.id)
            if row is not None and row.ready_at:
                self.say("node", f"{machine.instance.id} was still in its group when AWS ended it: {row}")

    def queued(self, model: str) -> None:
        """An engine of this model has more to do than it works on."""
        self._queued_at[model] = self._now

    def cut(self, machine: Machine, streams: int) -> None:
        """A machine goes with streams on it."""
        # Without its agent, a node cannot tell a new reconciler what another task streams from it.
        untold = machine.agent_killed and len(self.hand_overs) > 1
        row = self._world.nodes.rows.get(machine.instance.id)
        overdue = row is not None and 0 < row.draining_since - EPOCH < self._now - self._world.settings.drain_timeout_s
        self.overdue = self.overdue or (overdue and streams > 0)
        if streams and not machine.killed and not untold and not overdue:
            self.say("stream", f"{machine.instance.id} went away with {streams} streams: {row}")

    def stopping(self, *, asleep: bool, followed: bool, calls: Sequence[Call]) -> None:
        """A task is told to stop; ``followed``: another is healthy."""
        if not asleep and not followed:
            self.stops.append(self._now)
        if asleep and [call for call in calls if call.path.startswith("/v1") and not call.answer.done()]:
            self.say("stream", "the service was told to run no task while one had a stream")

    @property
    def _now(self) -> float:
        return self._timeline.now

    @property
    def _outages_s(self) -> float:
        """Of those that began by now."""
        outages: Sequence[Outage] = self._world.reach.outages
        return sum(outage.seconds for outage in outages if self._now <= outage.at + outage.seconds + 240)
