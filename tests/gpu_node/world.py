"""An agent with everything around it faked: the table, the engine, the clock that drives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from gpu_node.agent import Agent
from gpu_node.clock import SteadyClock
from gpu_node.engine import EngineSpec, Line, Load, Proof
from gpu_node.imds import Identity, MetadataUnavailable
from gpu_node.protocol import NodeState, Orders, Report
from gpu_node.settings import NodeSettings
from gpu_node.spot import NONE, Notice
from gpu_node.table import FIRST_LEASE_S, ModelName, ModelRow, TableUnavailable

IDENTITY = Identity("i-1", "10.0.0.1", "eu-west-1a", "g5.xlarge", "spot")
SETTINGS = NodeSettings(model="tiny", instances_table="i", models_table="m", group="g")
ROW = ModelRow({"name": "tiny", "repository": "org/tiny", "vllmArgs": "--max-model-len 4096"}, {})
LOADING = "Starting to load model org/tiny..."
SHARDS = "Loading safetensors checkpoint shards:  50% Completed | 1/2"


class Clock:
    """Steps; ``wall`` is what it shows, which somebody may have set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.set_by = 0.0
        self.events: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.set_by

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for event in [event for event in self.events if event[0] <= self.now]:
            self.events.remove(event)
            event[1]()

    def at(self, after_s: float, what: Callable[[], None]) -> None:
        self.events.append((1000.0 + after_s, what))


@dataclass
class FakeTable:
    """The row as the control plane sees it, and what AWS does not do at the moment."""

    clock: Clock
    state: NodeState = NodeState.PENDING
    lease_until: float = 1000.0 + FIRST_LEASE_S
    renewed: bool = False  # by a control plane that lives: at every look
    row: ModelRow | None = ROW
    broken: set[str] = field(default_factory=set)
    reports: list[Report] = field(default_factory=list)
    terminated: int = 0
    attempts: int = 0

    def report(self, report: Report) -> Orders:
        self._answer("report")
        sources = {
            NodeState.BOOTING: {NodeState.PENDING, NodeState.BOOTING},
            NodeState.READY: {NodeState.BOOTING, NodeState.READY},
            NodeState.DRAINING: {NodeState.READY, NodeState.DRAINING},
            NodeState.FAILED: set(NodeState) - {NodeState.TERMINATED},
        }
        if self.state in sources[report.state]:
            self.state = report.state
        self.reports.append(report)
        if self.renewed:
            self.lease_until = self.clock.now + 300.0
        return Orders(self.state, self.lease_until)

    def model(self, name: ModelName) -> ModelRow | None:
        self._answer("model")
        assert name == "tiny"
        return self.row

    def terminate_self(self, instance_id: str) -> None:
        self.attempts += 1
        self._answer("terminate")
        assert instance_id == "i-1"
        self.terminated += 1

    def _answer(self, call: str) -> None:
        if call in self.broken:
            raise TableUnavailable(call)

    @property
    def states(self) -> list[NodeState]:
        """The states reported, without repetitions."""
        states = [report.state for report in self.reports]
        return [state for number, state in enumerate(states) if number == 0 or states[number - 1] is not state]


@dataclass
class FakeOutput:
    clock: Clock
    fresh: list[str] = field(default_factory=list)
    tail: Sequence[str] = ()

    def take(self) -> Sequence[Line]:
        taken = [Line(self.clock.now, text, True) for text in self.fresh]
        self.tail = (*self.tail, *self.fresh)
        self.fresh.clear()
        return taken


@dataclass
class FakeProbe:
    asked_at: float
    limit_s: float
    proof: Proof | None = None  # None: still open

    def answer(self) -> Proof | None:
        return self.proof


class FakeEngine:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.output = FakeOutput(clock)
        self.code: int | None = None
        self.starved = False
        self.is_healthy = False
        self.current: Load | None = Load(0, 0)
        self.stopped: list[float] = []
        self.when_stopped: list[NodeState] = []  # what the table said of the node at that moment
        self.seen_as: Callable[[], NodeState] = lambda: NodeState.READY
        self.probes: list[FakeProbe] = []
        self.probed: Callable[[FakeProbe], None] = lambda probe: None

    def exit_code(self) -> int | None:
        return self.code

    def healthy(self) -> bool:
        return self.is_healthy and self.code is None

    def load(self) -> Load | None:
        return self.current

    def probe(self, limit_s: float) -> FakeProbe:
        probe = FakeProbe(self.clock.now, limit_s)
        self.probes.append(probe)
        self.probed(probe)
        return probe

    def stop(self, grace_s: float) -> None:
        self.stopped.append(grace_s)
        self.when_stopped.append(self.seen_as())

    def die(self, code: int, *last_words: str) -> None:
        self.output.fresh.extend(last_words)
        self.code = code

    def say(self, line: str) -> Callable[[], None]:
        return lambda: self.output.fresh.append(line)

    def get_ready(self) -> None:
        self.is_healthy = True


class World:
    """An agent, its fakes, and the clock that drives them."""

    def __init__(self, settings: NodeSettings = SETTINGS, *, market: str = "spot", launched_at: float = 0.0) -> None:
        self.clock = Clock()
        self.table = FakeTable(self.clock)
        self.engine = FakeEngine(self.clock)
        self.engine.seen_as = lambda: self.table.state
        self.specs: list[EngineSpec] = []
        self.gpu = True
        self.metadata: bool | None = False  # whether the group takes the node down; None: no answer
        self.metadata_asked = 0
        self.turns = 0
        self.spot: Notice | None = NONE  # what AWS has announced; None: no answer
        self.spot_asked = 0
        self.program_missing = False
        self.agent = Agent(
            settings,
            replace(IDENTITY, market=market, launched_at=launched_at),
            table=self.table,
            start_engine=self._start,
            gpu_answers=lambda: self.gpu,
            taken_down=self._taken_down,
            spot_notice=self._spot_notice,
            clock=SteadyClock(self.clock.wall, self.clock),
            sleep=self.clock.sleep,
            alive=self._alive,
        )

    def _start(self, spec: EngineSpec) -> FakeEngine:
        if self.program_missing:
            raise FileNotFoundError("vllm")
        self.specs.append(spec)
        return self.engine

    def live(self) -> int:
        """The whole life; a node that never ends fails the test."""
        self.clock.at(50_000, self._overdue)
        return self.agent.run()

    def ready_after(self, seconds: float) -> None:
        self.clock.at(seconds, self.engine.get_ready)

    def renew_always(self) -> None:
        self.table.renewed = True

    def control_plane_gone(self) -> None:
        self.table.renewed = False

    def set_clock(self, by_s: float) -> None:
        self.clock.set_by = by_s

    def order(self, state: NodeState) -> None:
        self.table.state = state

    def taken_down_after(self, seconds: float) -> None:
        self.clock.at(seconds, lambda: setattr(self, "metadata", True))

    def _taken_down(self) -> bool:
        self.metadata_asked += 1
        if self.metadata is None:
            raise MetadataUnavailable("no answer")
        return self.metadata

    def _alive(self) -> None:
        self.turns += 1

    def _spot_notice(self) -> Notice:
        self.spot_asked += 1
        if self.spot is None:
            raise MetadataUnavailable("no answer")
        return self.spot

    def _overdue(self) -> None:
        raise AssertionError("the node is still there")
