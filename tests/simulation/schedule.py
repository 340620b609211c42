"""What happens in one schedule, and when: values that a seed draws and that shrinking can leave out one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tests.simulation.settings import KEY_ROW, PROPAGATION_S
from tests.simulation.starts import FATES
from tests.simulation.troubles import AGENTS, AGENTS_WAYS, READS, WAYS, WRITES

MODELS = ("org/small", "org/large")
SCOPES = (f"user:{KEY_ROW.email}", f"key:{KEY_ROW.id}")
DEMAND_ENDS_S = 360.0

BAD = 0.015  # of all schedules have starts of tasks that fail
DEREGISTERS = 0.12  # of all schedules
ODD = 0.03  # of all schedules have clients that upload slowly, or follow few redirects
SLOW = 0.03  # of all schedules have a listener that turns slowly
SLOWEST_S = 35.0
AMPLE_USD = 100.0
TIGHT_USD = (0.45, 1.5)  # from what a first start needs to what a few nodes cost
CAPPED = 0.04  # of all schedules
CAPPED_USD = (0.45, 0.5)  # the same, to what a node costs after ten minutes


@dataclass(frozen=True)
class Cap:
    """A limit that the owner set for a person or a key, and the hard cap in one; dollars a month."""

    scope: str
    usd: float


@dataclass(frozen=True)
class Ask:
    """Somebody asks; comes back as a client library would; hangs up after ``patience_s``."""

    at: float
    model: str
    seconds: float  # that the engine works on it
    stream: bool
    manner: str  # "python", "js", "curl" or "aiohttp"
    patience_s: float | None = None
    wait_s: int | None = None  # the header
    upload_s: float = 0.0  # that its body takes to arrive


@dataclass(frozen=True)
class Scale:
    """A person wakes a model, or puts it to sleep."""

    at: float
    model: str
    desired: int


@dataclass(frozen=True)
class Retire:
    """ECS stops the task and starts another; ``rolling``: first the other, as in a deployment by hand."""

    at: float
    rolling: bool
    overlap_s: float = 0.0


@dataclass(frozen=True)
class CrashTask:
    at: float


@dataclass(frozen=True)
class KillMachine:
    at: float


@dataclass(frozen=True)
class KillAgent:
    """The agent of a node is gone, its engine works on."""

    at: float


@dataclass(frozen=True)
class Outage:
    """Tables, cloud or stage answer nobody."""

    at: float
    seconds: float
    what: str


@dataclass(frozen=True)
class Scarcity:
    """No zone has an instance; ``market``: of this market only."""

    at: float
    seconds: float
    market: str = ""


@dataclass(frozen=True)
class BadStarts:
    """Tasks end at their start, as ``starts`` has it: the next ``times``; at 0 those of a new definition, which a good
    one follows ``seconds`` later."""

    at: float
    fate: str
    times: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Interrupt:
    """AWS takes a Spot instance back, so long after it said so; None: it only says that it may."""

    at: float
    notice_s: float | None


@dataclass(frozen=True)
class Trouble:
    """The ``nth`` call of ``method`` by a process of this kind goes wrong in this way; see ``reach``."""

    kind: str
    method: str
    nth: int
    how: str
    at: float = 0.0


@dataclass(frozen=True)
class On:
    """``delay_s`` after the ``nth`` time that this call took effect, by whomever, this happens as well."""

    method: str
    nth: int
    delay_s: float
    then: Ask | Scale | Retire | CrashTask | KillMachine | Outage | Interrupt
    at: float = 0.0


Event = (
    Ask
    | Scale
    | Retire
    | CrashTask
    | KillMachine
    | KillAgent
    | Outage
    | Scarcity
    | BadStarts
    | Interrupt
    | Trouble
    | On
)

DISRUPTIONS = (Retire, CrashTask, KillMachine, KillAgent, Outage, Scarcity, BadStarts, Interrupt, Trouble)

GUARDS = ("reconciler", "janitor", "lease")


@dataclass(frozen=True)
class Schedule:
    """``guard``: the only one of the three that lives on from ``alone_at``, with nobody asking; None: all do."""

    seed: int
    events: tuple[Event, ...]
    propagation_s: float = 20.0
    task_start_s: float = 20.0
    boot_s: float = 30.0
    load_s: float = 25.0
    janitor_at: float = 60.0
    skew_s: float = 1.0
    guard: str | None = None
    alone_at: float = 0.0
    spot: bool = False  # Spot is tried before On-Demand
    budget_usd: float = AMPLE_USD
    cap: Cap | None = None
    deregisters: bool = False  # SIGTERM comes to a task after the deregistration delay, and not at once

    @property
    def limited(self) -> bool:
        """Does it matter what the month has cost?"""
        return self.cap is not None or self.budget_usd < AMPLE_USD

    @cached_property
    def disruptions(self) -> int:
        return sum(isinstance(event, DISRUPTIONS) for event in self.all)

    @cached_property
    def outages_s(self) -> float:
        """How long all outages last together."""
        return sum(event.seconds for event in self.all if isinstance(event, Outage))

    @cached_property
    def all(self) -> Sequence[Event]:
        """The events, and what others bring with them."""
        return [*self.events, *(event.then for event in self.events if isinstance(event, On))]


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    guard = rng.choice(GUARDS) if rng.random() < 0.15 else None
    alone_at = rng.uniform(30, 200) if guard else 0.0
    last = alone_at if guard else DEMAND_ENDS_S * rng.choice((0.2, 0.5, 1.0))
    events: list[Event] = [_ask(rng, last) for _ in range(rng.randint(1, 3))]
    events += [Scale(rng.uniform(0, last), rng.choice(MODELS), rng.choice((0, 0, 1, 2))) for _ in range(_few(rng))]
    if rng.random() < 0.8:
        for _ in range(_few(rng) + 1):
            events.append(_disruption(rng, last))
        events += [_trouble(rng) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    if guard == "lease":  # whose agent and machine must then not be what breaks
        events = [event for event in events if not isinstance(event, KillAgent | KillMachine)]
    if not guard:
        events += [_on(rng) for _ in range(_few(rng))]
    more = random.Random(seed + 7_000_000_000)  # so that what was drawn before stays as it was
    spot = more.random() < 0.4
    if spot and not guard:
        events += [_interrupt(more, last) for _ in range(more.randint(1, 3))]
    if not guard and more.random() < 0.08:
        events += _burst(more, last)
    if spot and not guard and more.random() < 0.2:
        events.append(Scarcity(more.uniform(0, last), more.uniform(60, 200), market="spot"))
    tight = not guard and more.random() < 0.08
    rare = {} if guard else _rare(seed, events, last, capped=not tight)
    values: dict[str, Any] = {
        "propagation_s": rng.uniform(0, PROPAGATION_S),
        "task_start_s": rng.uniform(10, 40),
        "boot_s": rng.uniform(5, 30),
        "load_s": rng.uniform(5, 40),
        "janitor_at": rng.uniform(0, 120),
        "skew_s": rng.choice((0.0, 0.5, 2.0)),
        "guard": guard,
        "alone_at": alone_at,
        "spot": spot,
        "budget_usd": more.uniform(*TIGHT_USD) if tight else AMPLE_USD,
    }
    return Schedule(seed, tuple(sorted(events, key=lambda event: event.at)), **(values | rare))


def _rare(seed: int, events: list[Event], last: float, *, capped: bool) -> dict[str, Any]:
    """What few schedules have: other values of theirs, which are returned, and events."""
    cap, habit = _beyond(random.Random(seed + 8_000_000_000)) if capped else (None, [])
    rng = random.Random(seed + 9_000_000_000)
    rare: dict[str, Any] = {"cap": cap, "deregisters": rng.random() < DEREGISTERS}
    events += [*habit, *_bad_starts(rng, last)]
    if rare["deregisters"] and rng.random() < 0.5:
        events += _parting(rng, last)
    if rng.random() < ODD:
        events[:] = [_odd(rng, event) for event in events]
    if rng.random() < SLOW:
        rare["propagation_s"] = rng.uniform(PROPAGATION_S, SLOWEST_S)
    return rare


def _odd(rng: random.Random, event: Event) -> Event:
    """Whoever asks by it, as an odd client."""
    match event:
        case Ask():
            return _odd_ask(rng, event)
        case On(then=Ask() as then):
            return replace(event, then=_odd_ask(rng, then))
    return event


def _odd_ask(rng: random.Random, ask: Ask) -> Ask:
    """Half of them follow few redirects, and half are slow to send."""
    return replace(ask, manner=rng.choice((ask.manner, "aiohttp")), upload_s=rng.choice((0.0, rng.uniform(3, 60))))


def _parting(rng: random.Random, last: float) -> list[Event]:
    """Somebody waits in a task that has to go."""
    at = rng.uniform(30, last + 100)
    asks = [replace(_ask(rng, 0.0), at=at + rng.uniform(-20, 5), model=MODELS[1]) for _ in range(2)]
    return [*asks, Retire(at, rolling=rng.random() < 0.6, overlap_s=rng.uniform(0, 25))]


def _beyond(rng: random.Random) -> tuple[Cap | None, list[Ask]]:
    """Seldom: a cap, and somebody who asks often enough to come to it."""
    if rng.random() >= CAPPED:
        return None, []
    return Cap(rng.choice(SCOPES), rng.uniform(*CAPPED_USD)), [_ask(rng, 600.0) for _ in range(12)]


def _bad_starts(rng: random.Random, last: float) -> list[Event]:
    """Seldom: a definition that does not start, or a few starts; and who asks meanwhile and afterwards."""
    if rng.random() >= BAD:
        return []
    at, fate = rng.choice((0.0, rng.uniform(0, last))), rng.choice(FATES)
    if rng.random() < 0.4:
        return [BadStarts(at, fate, times=rng.choice((1, 2, 3, 3, 5))), _ask(rng, last), _ask(rng, last + 200)]
    seconds = rng.uniform(40, 250)
    asks = [replace(_ask(rng, 0.0), at=at + rng.uniform(0, share * seconds)) for share in (0.5, 1.0, 1.8)]
    return [BadStarts(at, fate, seconds=seconds), *asks]


def _interrupt(rng: random.Random, last: float) -> Interrupt:
    return Interrupt(rng.uniform(20, last + 150), rng.uniform(60, 120) if rng.random() < 0.8 else None)


def _burst(rng: random.Random, last: float) -> list[Ask]:
    """More at once than an engine works on, for longer than a queue may last."""
    at, model = rng.uniform(0, last), rng.choice(MODELS)
    return [Ask(at + n, model, seconds=20.0, stream=True, manner="python") for n in range(7)]


def _few(rng: random.Random) -> int:
    return rng.choice((0, 0, 0, 1, 1, 2))


def _ask(rng: random.Random, last: float) -> Ask:
    return Ask(
        rng.uniform(0, last),
        rng.choice(MODELS) if rng.random() < 0.3 else MODELS[0],
        seconds=rng.choice((1.0, 5.0, 20.0, 40.0)),
        stream=rng.random() < 0.6,
        manner=rng.choice(("python", "js", "curl")),
        patience_s=rng.uniform(0.5, 150) if rng.random() < 0.25 else None,
        wait_s=rng.choice((0, 20, 200)) if rng.random() < 0.1 else None,
    )


def _disruption(rng: random.Random, last: float) -> Event:
    at = rng.uniform(0, last + 150)
    makers: Sequence[Callable[[], Event]] = (
        lambda: Retire(at, rolling=rng.random() < 0.6, overlap_s=rng.uniform(0, 25)),
        lambda: CrashTask(at),
        lambda: KillMachine(at),
        lambda: KillAgent(at),
        lambda: Outage(at, rng.uniform(5, 60), rng.choice(("tables", "cloud", "stage"))),
        lambda: Scarcity(at, rng.uniform(20, 120)),
    )
    return rng.choice(makers)()


RACES = (
    "front.move",
    "front.move",
    "stage.face",
    "stage.want",
    "cloud.launch",
    "nodes.move",
    "fence.take",
    "nodes.add",
)


def _on(rng: random.Random) -> On:
    then = _ask(rng, 0.0) if rng.random() < 0.6 else _disruption(rng, 0.0)
    if not isinstance(then, Ask | Retire | CrashTask | KillMachine | Outage):
        then = Scale(0.0, rng.choice(MODELS), rng.choice((0, 1)))
    return On(
        rng.choice(RACES),
        rng.choice((1, 1, 2, 2, 3, 4, 6)),
        rng.choice((0.0, rng.uniform(0, 2), rng.uniform(0, 45))),
        then,
    )


def _trouble(rng: random.Random) -> Trouble:
    kind = rng.choice(("task", "task", "night", "night", "janitor", "machine"))
    if kind == "machine":
        return Trouble(kind, rng.choice(AGENTS), rng.choice((1, 2, 3, 5, 8)), rng.choice(AGENTS_WAYS))
    method = rng.choice(WRITES[kind] if rng.random() < 0.85 else READS)
    return Trouble(kind, method, rng.choice((1, 1, 1, 2, 2, 3, 5)), rng.choice(WAYS))


def shrunk(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """The same failure with as few events as can be, by leaving out one at a time."""
    again = True
    while again:
        again = False
        for place in range(len(schedule.events)):
            fewer = replace(schedule, events=schedule.events[:place] + schedule.events[place + 1 :])
            if fails(fewer):
                schedule, again = fewer, True
                break
    return schedule
