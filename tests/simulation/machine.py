"""A GPU machine: the real agent on it, an engine that it starts, and the wires to that engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from control_plane.nodes import MOVES, Node, NodeId
from control_plane.ports import Instance, Launch
from gpu_node.agent import Agent
from gpu_node.clock import SteadyClock
from gpu_node.engine import EngineSpec, Line, Load
from gpu_node.imds import Identity
from gpu_node.protocol import NodeState, Orders, Report
from gpu_node.settings import NodeSettings
from gpu_node.spot import NONE, Notice
from gpu_node.table import FIRST_LEASE_S, ModelName, ModelRow, TableUnavailable
from tests.memory import MemoryModels, MemoryNodes, changed
from tests.simulation.timeline import Process

T = TypeVar("T")

HEARTBEAT_S = 10.0
POLL_S = 10.5  # every turn has something to report
BOOT_POLL_S = 5.0

CHUNK = b'data: {"id":"c%d","object":"chat.completion.chunk","choices":[{"index":0,"delta":{%b"content":"x"}}]}\n\n'
ROLE = b'"role":"assistant",'
PIECES = 3  # of every streamed answer: at its beginning, in its middle, at its end
END = b"data: [DONE]\n\n"
COUNTED = b'{"count":%d}'
SLOTS = 2  # requests that an engine works on at a time; more wait in its queue
WHOLE = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"content":"x"}}]}'


@dataclass
class _Output:
    tail: Sequence[str] = ()

    def take(self) -> Sequence[Line]:
        return ()


class Engine:
    """Answers ``ready_at`` seconds into the timeline; says how many requests it works on."""

    def __init__(self, process: Process, ready_at: float) -> None:
        self._timeline = process.timeline
        self._ready_at = ready_at
        self.output = _Output()
        self.up = True
        self.wires: dict[Wire, None] = {}  # in their order
        self.answers = 0
        self._queue: dict[Wire, Callable[[], None]] = {}

    starved = False

    def exit_code(self) -> int | None:
        return None

    def healthy(self) -> bool:
        return self.up and self._timeline.now >= self._ready_at

    def load(self) -> Load | None:
        waiting = len(self._queue)
        return Load(running=len(self.wires) - waiting, waiting=waiting) if self.up else None

    def take(self, wire: Wire, begin: Callable[[], None]) -> None:
        """Its turn comes when another's answer has ended."""
        self.wires[wire] = None
        if len(self.wires) - len(self._queue) > SLOTS:
            self._queue[wire] = begin
        else:
            begin()

    def release(self, wire: Wire) -> None:
        """Its answer ended, or nobody wants it any more."""
        if wire not in self.wires:
            return
        del self.wires[wire]
        if self._queue.pop(wire, None) is None and self._queue and self.up:
            _, begin = self._queue.popitem()
            begin()

    def probe(self, limit_s: float) -> NoReturn:
        raise AssertionError("it counts no tokens, so it is never suspected")

    def stop(self, grace_s: float) -> None:
        self.cut()

    def cut(self) -> None:
        """Gone, with whatever it was working on."""
        self.up = False
        for wire in list(self.wires):
            wire.lost(ConnectionResetError("the engine went away"))


class _Socket:
    def setsockopt(self, *_: object) -> None:
        pass


class Wire(asyncio.Transport):
    """One connection from a process to an engine, and the answer that the engine sends on it."""

    def __init__(self, process: Process, engine: Engine, protocol: Any) -> None:
        super().__init__()
        self._process = process
        self._engine = engine
        self._protocol = protocol
        self._open = True
        process.when_dead.append(self.forget)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _Socket() if name == "socket" else default

    def write(self, data: Any) -> None:
        request, _, body = bytes(data).partition(b"\r\n\r\n")
        asked = json.loads(body)
        if request.startswith(b"POST /tokenize "):
            counted = COUNTED % len(asked["prompt"])
            head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json"
            self._later(0.1, head + b"\r\ncontent-length: %d\r\n\r\n" % len(counted) + counted, last=True)
        else:
            self._engine.take(self, lambda: self._answer(asked))

    def _answer(self, asked: dict[str, Any]) -> None:
        seconds = float(asked["messages"][0]["content"])
        kind = b"text/event-stream" if asked.get("stream") else b"application/json"
        head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: " + kind
        if asked.get("stream"):
            self._stream(head, seconds, said=len(asked["messages"][-1]["content"]) if _goes_on(asked) else 0)
        else:
            self._later(seconds + 0.2, head + b"\r\ncontent-length: %d\r\n\r\n" % len(WHOLE) + WHOLE, last=True)

    def _stream(self, head: bytes, seconds: float, *, said: int) -> None:
        """All pieces but those that another engine has said already."""
        self._engine.answers += 1
        number = id(self._engine) * 1000 + self._engine.answers
        self._later(0.2, head + b"\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in range(said, PIECES):
            data = CHUNK % (number, ROLE if piece == said else b"")
            wait_s = 0.2 + seconds * (piece - said) / (PIECES - 1)
            if piece < PIECES - 1:
                self._later(wait_s, _chunked(data))
            else:
                self._later(wait_s, _chunked(data + END) + b"0\r\n\r\n", last=True)

    def _later(self, seconds: float, data: bytes, *, last: bool = False) -> None:
        self._process.loop.call_later(seconds, self._send, data, last)

    def _send(self, data: bytes, last: bool) -> None:
        if self._open:
            if last:
                self._engine.release(self)
            self._protocol.data_received(data)
            if last:
                self.lost(None)

    def lost(self, error: Exception | None) -> None:
        if self._open:
            self.forget()
            self._process.loop.call_soon(self._protocol.connection_lost, error)

    def forget(self) -> None:
        self._open = False
        self._engine.release(self)

    def abort(self) -> None:
        self.lost(None)

    close = abort

    def is_closing(self) -> bool:
        return not self._open

    def pause_reading(self) -> None:
        raise AssertionError("answers here are small")

    def resume_reading(self) -> None:
        pass


def _goes_on(asked: dict[str, Any]) -> bool:
    return bool(asked.get("continue_final_message"))


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class AgentTable:
    """The agent's table over the rows in memory: as ``gpu_node.table``, the conditions included."""

    nodes: MemoryNodes
    models: MemoryModels
    group: str
    down: Callable[[], bool]
    cloud_down: Callable[[], bool]
    leave: Callable[[NodeId], None]
    strike: Callable[[str], str | None]  # what goes wrong with a call of that name
    endless: Callable[[], bool]  # the lease, as a guard, is switched off

    def report(self, report: Report) -> Orders:
        return self._called("report", self.down, lambda: self._report(report))

    def _report(self, report: Report) -> Orders:
        node_id = NodeId(report.instance_id)
        row = self.nodes.rows.get(node_id)
        if row is None and report.state is not NodeState.BOOTING:
            return Orders(NodeState.TERMINATED, 0.0)
        row = row or self._first(node_id, report)
        if row.state is NodeState.TERMINATED:
            return Orders(row.state, row.lease_until)
        told: dict[str, Any] = {"running": report.running, "waiting": report.waiting}
        told |= {"interruption_at": report.interruption_at, "rebalance_at": report.rebalance_at}
        if row.state is report.state or report.state in MOVES[row.state]:
            ready_at = row.ready_at or (report.heartbeat_at if report.state is NodeState.READY else 0.0)
            told |= {"state": report.state, "ready_at": ready_at, "error": report.error or row.error}
            if report.state is NodeState.DRAINING:
                told |= {
                    "draining_since": row.draining_since or report.heartbeat_at,
                    "reason": row.reason or report.reason,
                }
        row = changed(row, heartbeat_at=report.heartbeat_at, ip=report.ip, **told)
        self.nodes.rows[node_id] = row
        return Orders(row.state, report.heartbeat_at + FIRST_LEASE_S if self.endless() else row.lease_until)

    def _first(self, node_id: NodeId, report: Report) -> Node:
        at = report.heartbeat_at
        lease = at + FIRST_LEASE_S
        kind, market = report.instance_type, report.market
        return Node(node_id, report.model, NodeState.BOOTING, self.group, report.zone, kind, market, at, lease)

    def model(self, name: ModelName) -> ModelRow | None:
        row = self._called("model", self.down, lambda: self.models.rows.get(name))
        return ModelRow(row.config, row.override) if row else None

    def terminate_self(self, instance_id: str) -> None:
        self._called("terminate_self", self.cloud_down, lambda: self.leave(NodeId(instance_id)))

    def _called(self, name: str, down: Callable[[], bool], effect: Callable[[], T]) -> T:
        if down():
            raise TableUnavailable("outage")
        how = self.strike(name)
        if how in ("lost", "twice"):
            effect()
        if how in ("lost", "refused"):
            raise TableUnavailable(how)
        return effect()


@dataclass
class Machine:
    """One instance from power on to power off."""

    instance: Instance
    launch: Launch
    process: Process
    table: AgentTable
    boot_s: float
    load_s: float
    leaving: Callable[[], bool]
    off: Callable[[], None]
    ip: str
    launched_at: float
    engine: Engine | None = None
    killed: bool = False  # by the schedule
    notice: Notice = NONE  # what AWS has announced
    agent_killed: bool = False
    _agent_task: asyncio.Task[None] | None = field(default=None)

    def power_on(self) -> None:
        self._agent_task = self.process.spawn(self._live())

    def power_off(self) -> None:
        if self.engine:
            self.engine.cut()
        self.process.crash()

    def kill_agent(self) -> None:
        self.agent_killed = True
        self.process.loop.paused = True

    async def _live(self) -> None:
        await asyncio.sleep(self.boot_s)
        agent = Agent(
            _settings(self.launch),
            Identity(self.instance.id, self.ip, self.instance.zone, self.instance.instance_type, self.launch.market),
            table=self.table,
            start_engine=self._start_engine,
            gpu_answers=lambda: True,
            taken_down=self.leaving,
            spot_notice=lambda: self.notice,
            clock=SteadyClock(self.process.clock, self.process.clock),
            sleep=lambda _seconds: None,
        )
        ready = False
        while agent.turn() is None:
            ready = ready or bool(self.engine and self.engine.healthy())
            await asyncio.sleep(POLL_S if ready else BOOT_POLL_S)
        self.off()

    def _start_engine(self, _spec: EngineSpec) -> Engine:
        self.engine = Engine(self.process, self.process.timeline.now + self.load_s)
        return self.engine


def _settings(launch: Launch) -> NodeSettings:
    return NodeSettings(
        model=launch.model,
        instances_table="instances",
        models_table="models",
        group=launch.group,
        driver_check=False,
        heartbeat_s=HEARTBEAT_S,
    )
