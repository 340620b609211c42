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
FAILED = (
    Schedule(  # a node that came and went between two readings of the month's spend was in neither
        54783,
        (
            Scale(3.6793359686598617, LARGE, desired=2),
            Ask(42.061306954432936, SMALL, seconds=1.0, stream=False, manner="curl"),
        ),
        propagation_s=2.433774494804186,
        task_start_s=11.488029662470915,
        boot_s=21.29799561790611,
        load_s=12.131811832524916,
        janitor_at=34.68709595533823,
        skew_s=0.5,
        budget_usd=0.702251407497661,
    ),
    Schedule(  # an instance that was found counted on nobody's account, though its launch was known
        17037,
        (
            Ask(4.764650569639095, SMALL, seconds=5.0, stream=True, manner="python", wait_s=0),
            Ask(595.0359585536605, SMALL, seconds=5.0, stream=False, manner="python"),
        ),
        propagation_s=5.581315646059029,
        task_start_s=26.883786232315316,
        boot_s=9.605884649435033,
        load_s=8.53141715998715,
        janitor_at=64.16116141948186,
        skew_s=2.0,
        spot=True,
        cap=Cap(SCOPES[1], 0.4695869051379762),
    ),
    Schedule(  # an instance was there, but its row was slow to write: who waited was told that there is none
        69935,
        (
            Trouble("night", "nodes.add", 1, "slow"),
            Scarcity(226.5498849628627, 163.7802263360267, market="spot"),
            Ask(267.3346958829253, SMALL, seconds=20.0, stream=False, manner="js"),
        ),
        propagation_s=22.178219862293467,
        task_start_s=28.114351336479732,
        boot_s=22.667406410665578,
        load_s=49.28420059985862,
        janitor_at=40.50492090839797,
        skew_s=0.5,
        spot=True,
    ),
    Schedule(  # an idle Spot node that AWS took back had another in its place
        4480,
        (
            Trouble(kind="night", method="fence.take_over", nth=1, how="lost"),
            Ask(210.57949951293128, SMALL, seconds=20.0, stream=False, manner="curl", patience_s=53.164465859962505),
            Scale(256.53707905313104, LARGE, desired=2),
            Interrupt(328.38067350523545, notice_s=49.87112119208185),
            Ask(354.13003329675047, LARGE, seconds=40.0, stream=False, manner="js"),
            Interrupt(417.0700038965514, notice_s=93.0138372862051),
        ),
        propagation_s=12.641511230983637,
        task_start_s=25.359379190912335,
        boot_s=24.886056875800186,
        load_s=22.27612141729594,
        janitor_at=99.66705775879898,
        skew_s=0.5,
        spot=True,
    ),
    Schedule(  # while the tables are out nobody can turn the listener away from a task that was stopped
        14514,
        (
            Ask(30.733288928746006, SMALL, seconds=40.0, stream=True, manner="python"),
            Outage(132.04206691202165, seconds=56.968896987995805, what="tables"),
            Retire(136.35498472544546, rolling=False, overlap_s=24.359373503759098),
            Ask(167.19344023583955, SMALL, seconds=5.0, stream=True, manner="python", patience_s=66.88834263407931),
        ),
        propagation_s=18.82651007594831,
        task_start_s=33.28123743805307,
        boot_s=39.354294453268906,
        load_s=6.958266125209628,
        janitor_at=71.13791985782785,
        skew_s=2.0,
        budget_usd=1.0460179271672958,
    ),
    Schedule(  # a node that became ready for whoever waits in the older task is drained at that moment
        3813,
        (
            Ask(10.0, SMALL, seconds=1.0, stream=True, manner="curl"),
            Ask(73.30136382012408, LARGE, seconds=40.0, stream=True, manner="curl"),
            Retire(78.05778165822558, rolling=True, overlap_s=44.10408574121068),
            Scale(116.10699549993396, LARGE, desired=0),
        ),
        propagation_s=17.58885312022529,
        task_start_s=23.336192687136222,
        boot_s=18.07280368339218,
        load_s=18.174151628019448,
        janitor_at=50.0,
        skew_s=0.5,
    ),
    Schedule(  # an order by hand was on the account of its person alone, and not on that of the key that it came with
        7057,
        (Scale(130.9520640870942, LARGE, 2),),
        propagation_s=12.22447185075543,
        task_start_s=36.53557027818621,
        boot_s=6.4304848383417275,
        load_s=25.939050962869697,
        janitor_at=81.55527655090145,
        skew_s=2.0,
        cap=Cap("key:8f461ff0943c6419", 0.4637546172650873),
    ),
    Schedule(  # a node told of itself before anybody heard that it was launched: nobody paid for it
        5515,
        (Scale(50.317519888595875, SMALL, 2), ask(554.1182738164158, seconds=1.0)),
        propagation_s=7.131687582272367,
        task_start_s=24.90856855601752,
        boot_s=11.284766989643728,
        load_s=27.963569673803946,
        janitor_at=47.99665234818535,
        cap=Cap("user:ann@example.com", 0.4866540667403012),
    ),
    Schedule(  # both tasks wait for the node, and it is ready after the newer one took over: surplus, and not idle
        31006355,
        (
            On("front.move", 2, 15.885118922055442, Retire(0.0, rolling=True, overlap_s=9.362704145847347)),
            Ask(21.702430422896853, LARGE, 20.0, stream=True, manner="curl", patience_s=115.40714105130654),
            Ask(62.25068171813974, SMALL, 20.0, stream=True, manner="curl"),
        ),
        propagation_s=4.565184713942144,
        task_start_s=38.39473869753283,
        boot_s=35.10718100643909,
        load_s=30.13925239601045,
        janitor_at=79.60450321909545,
        skew_s=2.0,
    ),
    Schedule(  # the same, and the model is put to sleep by hand
        31007901,
        (
            On("fence.take", 2, 10.294125514987885, Scale(0.0, SMALL, 0)),
            Ask(31.938881748308827, SMALL, 20.0, stream=True, manner="curl", patience_s=123.488667398965),
            Outage(41.478306458551174, 36.56201702931799, "stage"),
            Retire(53.323156405953235, rolling=True, overlap_s=14.02365748228839),
            Ask(61.51389508701863, SMALL, 40.0, stream=False, manner="curl"),
            Ask(81.24674198570145, SMALL, 1.0, stream=True, manner="python", patience_s=85.56369558902263),
        ),
        propagation_s=13.994008156928015,
        task_start_s=35.32881775074888,
        boot_s=27.52686362035085,
        load_s=31.08209299589937,
        janitor_at=60.44164436709018,
        skew_s=0.5,
    ),
    Schedule(  # of the same kind: each is caught by what one of the two guards of a drain between two tasks does
        95,
        (
            On("fence.take", 2, 16.538000994422468, Scale(0.0, SMALL, 0)),
            Ask(32.35337981740632, SMALL, 20.0, stream=True, manner="curl", patience_s=123.488667398965),
            Ask(50.363575126371835, SMALL, 40.0, stream=False, manner="curl"),
            Retire(54.4997882552758, rolling=True, overlap_s=23.38889015173984),
            Outage(56.391371982132824, 36.56201702931799, "stage"),
            Ask(81.06595641064385, SMALL, 1.0, stream=True, manner="python", patience_s=85.56369558902263),
        ),
        propagation_s=3.487511874346594,
        task_start_s=27.534650899840635,
        boot_s=20.883799315859044,
        load_s=26.61489843979782,
        janitor_at=60.44164436709018,
        skew_s=0.5,
    ),
    Schedule(
        26,
        (
            Ask(18.945825324465673, SMALL, 20.0, stream=True, manner="curl"),
            Retire(119.0550526469182, rolling=True, overlap_s=12.309519245829216),
            On("nodes.move", 1, 2.7090855131162144, Ask(0.0, SMALL, 40.0, stream=True, manner="curl")),
        ),
        propagation_s=1.4189321785927662,
        task_start_s=33.28985801737839,
        boot_s=31.754390163003542,
        load_s=7.295495421882101,
        janitor_at=82.00739320225374,
    ),
    Schedule(
        54,
        (
            Ask(22.272859451097823, SMALL, 20.0, stream=True, manner="curl"),
            Retire(117.74956039174462, rolling=True, overlap_s=33.36420817580481),
            On("nodes.move", 1, 1.2962698539945858, Ask(0.0, SMALL, 40.0, stream=True, manner="curl")),
        ),
        propagation_s=23.974510373088272,
        task_start_s=21.4116925490651,
        boot_s=20.62751428449529,
        load_s=36.75629705355435,
        janitor_at=45.85164774326211,
    ),
    Schedule(  # with two tasks, a node's streams may be the older one's for longer than a drain takes
        300046,
        (
            *(Ask(94.0 + n, LARGE, 20.0, stream=True, manner="python") for n in range(5)),
            Retire(107.4523421526832, rolling=True, overlap_s=22.61773630486152),
        ),
        propagation_s=9.190639369439527,
        task_start_s=17.39113843815397,
        boot_s=37.31582495590207,
        load_s=18.379428164019412,
        janitor_at=51.076257932768925,
        skew_s=2.0,
    ),
)

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
    spot = any(isinstance(event, Interrupt) or getattr(event, "market", "") == "spot" for event in TRACES[title])
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
