"""The engines that can answer now, who uses them, and who waits for one.

The hot path's one owner: everything here is synchronous, so on one event loop it is atomic. The reconciler tells it
what runs (``update``, ``refuse``); requests lease an engine or wait for one, first come, first served.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from control_plane.affinity import prefer, seed_of
from control_plane.errors import QueueFull, RequestError, StartFailed
from control_plane.nodes import STARTING, Node, NodeId
from control_plane.ports import Clock
from gpu_node.protocol import Failure, NodeState, PhaseRecord

QUEUE_FULL_RETRY_S = 10
REFUSAL_MEMORY_S = 120.0  # a client's own retry of what was refused is told the same this long, and starts nothing


class Lease:
    """One request's use of one engine. The node is not taken down before it is released, but by AWS itself."""

    __slots__ = ("_engine", "_fleet", "node")

    def __init__(self, fleet: Fleet, engine: _Engine) -> None:
        self._fleet = fleet
        self._engine: _Engine | None = engine
        self.node = engine.node

    def release(self) -> None:
        """Doing it twice is doing it once."""
        if self._engine is not None:
            self._engine.cuts.pop(self, None)
            self._fleet._released(self._engine)
            self._engine = None

    def on_hand_over(self, cut: Callable[[], None]) -> None:
        """Call this when AWS is about to end the node: the request can go on elsewhere."""
        if self._engine is not None:
            self._engine.cuts[self] = cut

    @property
    def interrupted(self) -> bool:
        """Does AWS take the node back?"""
        return self._engine is not None and bool(self._engine.node.interruption_at)

    async def fate(self, limit_s: float) -> Failure | None:
        """What became of an engine under suspicion, once its agent or a probe tells; None where it is well, or nobody
        says so in that time. At once where it is under none: nobody is going to judge one that drains, say."""
        engine = self._engine
        if engine is None:
            return None
        if engine.node.id in self._fleet.suspects:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await engine.judged.wait()
        return engine.node.error

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


class Waiter:
    """One request's place in the queue of a model. Leaving it returns a lease that was granted meanwhile."""

    def __init__(self, fleet: Fleet, model: str, affinity: int) -> None:
        self._fleet = fleet
        self._model = model
        self.affinity = affinity
        self.since = fleet._clock()
        self.granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._taken = False

    def take(self) -> Lease:
        """The lease, once ``granted`` is done; raises what the wait ended with."""
        lease = self.granted.result()
        self._taken = True
        return lease

    def send_away(self, error: RequestError) -> None:
        """The wait ends with this error; who was granted a lease keeps it."""
        if not self.granted.done():
            self.granted.set_exception(error)

    def __enter__(self) -> Waiter:
        self._fleet._queue(self._model).append(self)
        self._fleet.waited_for.set()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        queue = self._fleet._queue(self._model)
        if self in queue:
            queue.remove(self)
        if not self.granted.done():
            self.granted.cancel()
        elif not self._taken and not self.granted.cancelled() and self.granted.exception() is None:
            self.granted.result().release()


@dataclass(frozen=True)
class Progress:
    """How far the start of a model is, for those who wait."""

    launched: bool  # the cloud granted an instance
    phase: PhaseRecord | None = None
    started_at: float = 0.0
    usual_s: float | None = None  # how long its last starts took, median

    def note(self, model: str, now: float) -> str:
        """One line for an SSE comment or an error message."""
        if self.phase is None:
            return f"model={model} phase=launch"
        note = f"model={model} phase={self.phase.phase}"
        if self.phase.total_bytes:
            note += f" {100 * (self.phase.done_bytes or 0) // self.phase.total_bytes}%"
        note += f" elapsed={now - self.started_at:.0f}s"
        eta_s = self.eta_s(now)
        return note if eta_s is None else f"{note} eta={eta_s:.0f}s"

    def eta_s(self, now: float) -> float | None:
        """Until it is ready, if it takes as long as usual; None where that is not known."""
        if self.usual_s is None:
            return None
        return max(0.0, round(self.usual_s - (now - self.started_at if self.launched else 0.0), 1))


@dataclass(eq=False)
class _Engine:
    node: Node
    seed: int
    in_flight: int = 0
    routable: bool = True
    cuts: dict[Lease, Callable[[], None]] = field(default_factory=dict)
    judged: asyncio.Event = field(default_factory=asyncio.Event)  # after a suspicion: it is well, failed or gone


class Fleet:
    """Leases, waiters and what the reconciler must know of both."""

    def __init__(self, *, clock: Clock, max_waiters: int) -> None:
        self._clock = clock
        self._max_waiters = max_waiters
        self._engines: dict[NodeId, _Engine] = {}
        self._routes: dict[str, list[_Engine]] = {}
        self._queues: dict[str, deque[Waiter]] = {}
        self._last_request: dict[str, float] = {}
        self._failures: dict[str, Failure] = {}
        self._refused: dict[str, tuple[Failure, float]] = {}
        self._progress: dict[str, Progress] = {}
        self._usual: dict[str, float] = {}
        self._suspects: dict[NodeId, float] = {}  # and since when
        self._closed: RequestError | None = None
        self.disturbed = asyncio.Event()  # something happened that the reconciler should look at now
        self.waited_for = asyncio.Event()  # somebody began to wait: what becomes ready must be seen at once

    # -- requests

    def acquire(self, model: str, affinity: int = 0) -> Lease | None:
        """An engine of this model, or None when none is ready: see ``affinity``, whose key it is."""
        engines = self._routes.get(model)
        if not engines:
            return None
        engine = engines[0] if len(engines) == 1 else _chosen(engines, affinity)
        engine.in_flight += 1
        return Lease(self, engine)

    def wait(self, model: str, *, retry: bool = False, affinity: int = 0, begun: bool = False) -> Waiter:
        """A place in the queue. Raises StartFailed on a failure that still stands, QueueFull when it is full.

        A ``retry`` comes from a client whose body was cut because of a refusal: it comes to hear that. One whose answer
        has ``begun`` cannot come back: it may wait here also after ``close``.
        """
        if self._closed and not begun:
            raise self._closed
        failure = self._failures.get(model)
        refused, at = self._refused.get(model, (None, 0.0))
        if retry and not failure and self._clock() < at + REFUSAL_MEMORY_S:
            failure = refused
        if failure:
            raise StartFailed(failure)
        if len(self._queue(model)) >= self._max_waiters:
            raise QueueFull(
                f"{self._max_waiters} requests already wait for {model} to start.", retry_after_s=QUEUE_FULL_RETRY_S
            )
        return Waiter(self, model, affinity)

    def suspect(self, node_id: NodeId) -> None:
        """This engine broke a connection: nothing more goes there until the reconciler has probed it."""
        engine = self._engines.get(node_id)
        if engine and engine.routable:
            self._suspects[node_id] = self._clock()
            engine.judged.clear()
            self._unroute(engine)
            self.disturbed.set()

    def progress(self, model: str) -> Progress:
        return self._progress.get(model) or Progress(launched=False, usual_s=self._usual.get(model))

    # -- the reconciler

    def update(self, nodes: Sequence[Node]) -> None:
        """What runs, and how far what starts has come. Grants leases to those who wait for what became ready.

        Nothing more goes to a node that AWS takes back, whatever the plan makes of it.
        """
        ready = {node.id: node for node in nodes if node.id not in self._suspects and _serves(node)}
        for node in nodes:
            if engine := self._engines.get(node.id):
                engine.node = node
        there = {node.id for node in nodes if node.state is not NodeState.FAILED}
        for engine in list(self._engines.values()):
            if engine.node.id not in there:
                engine.judged.set()
            if engine.node.id not in ready:
                self._unroute(engine)
        for node in ready.values():
            self._route(node)
        self._progress = {node.model: self._progress_of(node) for node in nodes if node.state in STARTING}
        for model in list(self._queues):
            self._grant(model)

    def learn(self, *, failures: Mapping[str, Failure], usual_s: Mapping[str, float]) -> None:
        """Failures that still stand, and how long starts usually take."""
        self._failures = dict(failures)
        self._usual = dict(usual_s)

    def refuse(self, model: str, failure: Failure, *, before: float | None = None) -> None:
        """Those who wait for this model, all or those who began before then, get to know why it does not start."""
        self._refused[model] = (failure, self._clock())
        for waiter in self._leave_queue(model):
            if before is None or waiter.since < before:
                waiter.granted.set_exception(StartFailed(failure))
            else:
                self._queue(model).append(waiter)

    def close(self, error: RequestError) -> None:
        """From now on nobody begins to wait: who comes is sent away with this error. Leases and waits go on."""
        self._closed = error

    def open(self) -> None:
        """Whoever comes may wait here again."""
        self._closed = None

    def withdraw(self, node_id: NodeId) -> None:
        """Nothing new goes to this node: it is about to drain."""
        engine = self._engines.get(node_id)
        if engine:
            self._unroute(engine)

    def hand_over(self, node_id: NodeId) -> None:
        """AWS is about to end this node: whoever can go on elsewhere shall."""
        engine = self._engines.get(node_id)
        for cut in list(engine.cuts.values()) if engine else ():
            cut()

    def cleared(self, node_id: NodeId) -> None:
        """The probe found the suspect well; the next update routes to it again."""
        self._suspects.pop(node_id, None)
        if engine := self._engines.get(node_id):
            engine.judged.set()

    def forget(self, present: Iterable[NodeId]) -> None:
        """Drop suspicions about nodes that are gone."""
        for node_id in self._suspects.keys() - set(present):
            del self._suspects[node_id]

    @property
    def suspects(self) -> Mapping[NodeId, float]:
        """Since when each is under suspicion."""
        return dict(self._suspects)

    @property
    def waiters(self) -> dict[str, int]:
        return {model: len(queue) for model, queue in self._queues.items() if queue}

    @property
    def in_flight(self) -> dict[NodeId, int]:
        return {node_id: engine.in_flight for node_id, engine in self._engines.items() if engine.in_flight}

    @property
    def last_request(self) -> dict[str, float]:
        """When each model's last request ended."""
        return dict(self._last_request)

    # -- inside

    def _queue(self, model: str) -> deque[Waiter]:
        return self._queues.setdefault(model, deque())

    def _leave_queue(self, model: str) -> list[Waiter]:
        left = [waiter for waiter in self._queues.pop(model, ()) if not waiter.granted.done()]
        return left

    def _route(self, node: Node) -> None:
        engine = self._engines.get(node.id)
        if engine is None:
            engine = self._engines[node.id] = _Engine(node, seed_of(node.id))
        engine.routable = True
        engines = self._routes.setdefault(node.model, [])
        if engine not in engines:
            engines.append(engine)

    def _unroute(self, engine: _Engine) -> None:
        engine.routable = False
        engines = self._routes.get(engine.node.model, [])
        if engine in engines:
            engines.remove(engine)
        if not engine.in_flight:
            self._engines.pop(engine.node.id, None)

    def _released(self, engine: _Engine) -> None:
        engine.in_flight -= 1
        self._last_request[engine.node.model] = self._clock()
        if not engine.in_flight and not engine.routable:
            self._engines.pop(engine.node.id, None)
            self.disturbed.set()  # the last request of a draining node ended: it can go

    def _grant(self, model: str) -> None:
        queue = self._queue(model)
        while queue and (queue[0].granted.done() or self._routes.get(model)):
            waiter = queue.popleft()
            lease = None if waiter.granted.done() else self.acquire(model, waiter.affinity)
            if lease:
                waiter.granted.set_result(lease)

    def _progress_of(self, node: Node) -> Progress:
        return Progress(
            launched=True, phase=node.phase, started_at=node.launched_at, usual_s=self._usual.get(node.model)
        )


def _serves(node: Node) -> bool:
    return node.state is NodeState.READY and not node.interruption_at


def _chosen(engines: Sequence[_Engine], affinity: int) -> _Engine:
    """Of several. One that AWS may take back is left alone while another is there."""
    return prefer([engine for engine in engines if not engine.node.at_risk] or engines, affinity)
