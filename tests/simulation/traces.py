"""Short stories that went wrong once, or that a planted bug needs which few seeds would come upon."""

from __future__ import annotations

from tests.simulation.schedule import (
    AMPLE_USD,
    SCOPES,
    Ask,
    BadStarts,
    Cap,
    Event,
    Interrupt,
    KillMachine,
    On,
    Outage,
    Retire,
    Scale,
    Scarcity,
    Schedule,
    Trouble,
)

SMALL, LARGE = "org/small", "org/large"


def ask(
    at: float,
    model: str = SMALL,
    *,
    seconds: float = 5.0,
    stream: bool = True,
    manner: str = "curl",
    upload_s: float = 0.0,
) -> Ask:
    return Ask(at, model, seconds, stream, manner, upload_s=upload_s)


TRACES: dict[str, tuple[Event, ...]] = {
    "an answer that AWS cuts off goes on elsewhere": (
        ask(5.0, seconds=40.0),
        *(ask(15.0 + 12 * n, seconds=40.0) for n in range(6)),
        Interrupt(85.0, 30.0),
    ),
    "a node that AWS takes back has left its group": (
        *(ask(5.0 + 12 * n, seconds=40.0, stream=False) for n in range(7)),
        Interrupt(85.0, 30.0),
    ),
    "a cloud that was not seen yet is no cloud without groups": (Outage(10.0, 60.0, "cloud"), ask(12.0)),
    "a task that is stopped while idle leaves somebody in front": (
        ask(10.0, seconds=1.0),
        Retire(130.0, rolling=False),
        *(ask(150.0 + 2 * n, seconds=1.0) for n in range(10)),
    ),
    "a stream that the older of two tasks began is not cut by the newer": (
        ask(14.0, seconds=20.0),
        Retire(130.0, rolling=True),
        *(ask(135.0 + 2 * n, seconds=40.0) for n in range(8)),
    ),
    "a ladder that takes longer than a function has": (
        Scarcity(0.0, 400.0),
        Scarcity(0.0, 400.0, market="spot"),
        *(Trouble("night", "cloud.launch", nth, "slow") for nth in range(1, 9)),
        ask(10.0),
    ),
    "an intent that shows late is no second need": (
        Trouble("task", "launches.intend", 1, "late"),
        ask(308.0, LARGE, seconds=40.0),
        ask(406.0, seconds=20.0),
    ),
    "who wakes a task that was just told to end is not sent there": (
        ask(10.0),
        On("front.move", 4, 0.2, ask(0.0)),
        On("front.move", 4, 1.7, ask(0.0, LARGE, seconds=20.0)),
    ),
    "the fall waits for the listener's turn, not for the order to turn": (
        Trouble("task", "stage.face", 1, "refused"),
        Trouble("task", "stage.face", 2, "refused"),
        ask(10.0),
        *(On("front.move", 3, 5.0 + 5 * n, ask(0.0, seconds=20.0)) for n in range(6)),
    ),
    "a listener that turned late still sends somebody to the task": (
        *(Trouble("task", "stage.face", n, "refused") for n in (1, 2, 3)),
        ask(10.0, seconds=1.0),
        *(On("stage.face", n, delay_s, ask(0.0, seconds=20.0)) for n, delay_s in ((2, 1.2), (3, 5.7))),
    ),
    "an instance whose launch was not heard of is no second need": (
        Trouble("task", "cloud.launch", 1, "lost"),
        ask(10.0, seconds=40.0),
        ask(100.0, LARGE, seconds=20.0),
    ),
    "a launch whose intent is slow to show is begun once": (
        Trouble("task", "launches.intend", 1, "slow"),
        ask(10.0, seconds=40.0),
        *(ask(100.0 + n, LARGE, seconds=1.0) for n in range(8)),
    ),
    "the older of two tasks lets the newer one act": (
        ask(10.0, seconds=1.0),
        Retire(70.0, rolling=True, overlap_s=150.0),
        ask(75.0, LARGE, seconds=20.0),
    ),
    "a node that drains waits for what the older of two tasks still sends": (
        ask(14.0, seconds=20.0),
        Retire(125.0, rolling=True, overlap_s=45.0),
        On("nodes.move", 1, 1.5, ask(0.0, seconds=40.0)),
    ),
    "a node that AWS takes back waits for what the older of two tasks still sends": (
        *(ask(at, seconds=1.0) for at in (10.0, 100.0, 120.0, 140.0)),
        Retire(125.0, rolling=True, overlap_s=60.0),
        On("fence.take", 2, 0.0, Interrupt(0.0, 90.0)),
        On("fence.take", 2, 18.0, ask(0.0, seconds=40.0)),
    ),
    "so does one that got ready for the older of two tasks": (
        ask(10.0, seconds=1.0),
        Retire(125.0, rolling=True, overlap_s=60.0),
        ask(130.0, LARGE, seconds=1.0),
        On("models.started", 2, 0.5, Interrupt(0.0, 90.0)),
        On("models.started", 2, 20.5, ask(0.0, LARGE, seconds=40.0)),
    ),
    "a machine that died before anybody wrote its row is taken out of its group": (
        ask(10.0, seconds=1.0),
        Outage(12.5, 45.0, "tables"),
        KillMachine(33.0),
    ),
    "who asks while somebody puts the model to sleep is told so": (
        ask(10.0, seconds=40.0),
        Scale(130.0, LARGE, 0),
        ask(130.02, LARGE),
    ),
    "nothing starts that the budget has no room for": (
        ask(10.0),
        ask(150.0, LARGE),
        ask(300.0),
        ask(420.0, LARGE),
        ask(560.0),
        ask(680.0, LARGE),
    ),
    "who is beyond their hard cap uses nothing": tuple(ask(10.0 + 28.0 * n) for n in range(22)),
    "a key that is beyond its hard cap uses nothing": tuple(ask(10.0 + 28.0 * n, stream=False) for n in range(22)),
    "where no Spot instance is to be had, there is another": (Scarcity(0.0, 400.0, market="spot"), ask(10.0)),
    "a definition that does not start is given up, and a good one is found": (
        BadStarts(0.0, "exit", seconds=250.0),
        ask(5.0),
        ask(130.0, LARGE),
        ask(340.0),
    ),
    "what is ordered by hand waits for a control plane that comes up": (
        BadStarts(0.0, "permission", seconds=500.0),
        ask(5.0),
        *(Scale(150.0 + 20 * n, LARGE, 1) for n in range(4)),
        ask(640.0),
    ),
    "a wake after a failed one takes what was mended since": (
        BadStarts(0.0, "exit", seconds=120.0),
        ask(5.0),
        On("front.move", 2, 0.0, Outage(0.0, 80.0, "stage")),
        Trouble("janitor", "stage.want", 1, "refused"),
        ask(210.0),
    ),
    "a task that somebody stops while it starts is no failed one": (
        ask(5.0),
        *(Retire(at, rolling=False) for at in (10.0, 16.0, 22.0)),
    ),
    "what the load balancer would break is ended before": (
        ask(10.0, seconds=1.0),
        *(ask(100.0 + n, seconds=40.0) for n in range(4)),
        ask(110.0, LARGE),
        Retire(115.0, rolling=False),
    ),
    "a task does not fall asleep on an upload": (
        ask(10.0),
        *(On("front.move", 3, delay_s, ask(0.0, upload_s=80.0)) for delay_s in (0.2, 1.0, 3.0, 6.0)),
    ),
    "a client that follows few redirects outlasts a slow listener": (ask(10.0, manner="aiohttp"),),
    "who waits in a task has a wish in the table": (ask(10.0, seconds=40.0), ask(110.0, LARGE)),
}

BUDGETS_USD = {"nothing starts that the budget has no room for": 0.9}
CAPS = {
    "who is beyond their hard cap uses nothing": Cap(SCOPES[0], 0.46),
    "a key that is beyond its hard cap uses nothing": Cap(SCOPES[1], 0.46),
}
DEREGISTERED = frozenset({"what the load balancer would break is ended before"})
SLOWLY = frozenset({"a client that follows few redirects outlasts a slow listener"})
CLOCKS = 12


def varied(number: int) -> tuple[str, Schedule]:
    """The traces one after another, and each on several clocks and latencies: the race is in a different place."""
    clock, place = divmod(number, len(TRACES))
    title = list(TRACES)[place]
    spread = clock % CLOCKS
    spot = any(_of_spot(getattr(event, "then", event)) for event in TRACES[title])
    return title, Schedule(
        clock,
        TRACES[title],
        propagation_s=34.0 if title in SLOWLY else 2.0 * spread,
        task_start_s=12.0 + 2 * spread,
        spot=spot,
        budget_usd=BUDGETS_USD.get(title, AMPLE_USD),
        cap=CAPS.get(title),
        deregisters=title in DEREGISTERED,
    )


def _of_spot(event: object) -> bool:
    return isinstance(event, Interrupt) or getattr(event, "market", "") == "spot"
