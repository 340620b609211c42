"""Traces: what of a request, and of the start that it brought about, becomes which span; and their way out.

A request is one span; its wish, its wait and its first token are within it. Of all who wait for a model, the first is
the one that brought the start about: the launch, the node's start and each of its phases stand on its trace, and the
traces of the others link to it. A start that nobody waits for is a trace of its own. A node tells its phases itself, so
all times are known when a span is made, and nothing here measures anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from control_plane.actions import Done, Repeat, Start
from control_plane.boots import road
from control_plane.nodes import STARTING, Node, NodeId
from control_plane.passage import HUNG_UP, Passage
from control_plane.ports import Clock
from control_plane.spans import Attributes, Context, NotSent, Span, parent_of
from gpu_node.protocol import NodeState

MAX_QUEUED = 4096
MAX_BATCH = 256
MAX_TRIES = 5  # of one batch
MAX_LAUNCHES = 64  # whose nodes were not seen yet
MODEL, NODE = "diogenes.model", "diogenes.node"

log = logging.getLogger(__name__)

Export = Callable[[Sequence[Span]], Awaitable[None]]
"""Send them. Raises NotSent."""


class Traces:
    """Makes spans, keeps them for a while, and hands them on. Nothing waits for it, and nothing in it raises."""

    def __init__(self, export: Export, *, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        self._export = export
        self._clock = clock
        self._entropy = entropy
        self._wakers: dict[str, Passage] = {}  # by model: whose trace tells of the start
        self._starting: dict[NodeId, Node] = {}  # as last seen
        self._launches: dict[NodeId, Context] = {}  # of what is launched: where its start belongs
        self._queue: deque[Span] = deque()
        self._batch: Sequence[Span] = ()
        self._tries = 0
        self._dropped = 0
        self._silent = False  # the last attempt failed, and that was told
        self._flushing = asyncio.Lock()

    # -- requests

    def begin(self, passage: Passage, headers: Mapping[bytes, bytes]) -> None:
        """A request came: it is part of the client's trace, or begins one. One that the client does not keep is left
        out."""
        parent = parent_of(headers.get(b"traceparent"))
        if parent is None:
            passage.trace = self._root()
        elif parent.sampled:
            passage.trace = Context(parent.trace_id, self._id(8), parent.span_id)

    def waits(self, passage: Passage) -> None:
        """It begins to wait for a node."""
        if passage.trace is None:
            return
        told_on = self._trace_of_start(passage.model)
        if told_on is None:
            self._wakers[passage.model] = passage
        elif told_on is not passage.trace:
            passage.link = told_on

    def passed(self, passage: Passage) -> None:
        """It is over."""
        trace = passage.trace
        if trace is None:
            return
        failed = passage.status >= 500
        self._add(
            Span(
                trace,
                f"POST {passage.route}",
                passage.came_at,
                passage.ended_at,
                _of_request(passage),
                serves=True,
                error=str(passage.status) if failed else "",
                links=[passage.link] if passage.link else (),
            )
        )
        if passage.asked_at:
            unfinished = "" if passage.leased_at else "not ready"
            wished_at = passage.wished_at or passage.ended_at
            self._within(trace, "wish", passage.asked_at, wished_at, error="" if passage.wished_at else "not written")
            self._within(trace, "wait", wished_at, passage.leased_at or passage.ended_at, error=unfinished)
        if passage.first_at:
            self._within(trace, "first token", passage.sent_at, passage.first_at)

    # -- starts

    def acted(self, done: Done) -> None:
        """A reconciler's action took effect."""
        match done.action:
            case Start(model=model):
                self._launch(model, done)
            case Repeat(launch):
                self._launch(launch.model, done)

    def saw(self, nodes: Sequence[Node]) -> None:
        """The nodes, as they are now."""
        there = {node.id: node for node in nodes}
        for node in nodes:
            if node.state in STARTING:
                self._starting[node.id] = node
        for node_id, last in list(self._starting.items()):
            node = there.get(node_id, last)
            if node_id not in there or node.state not in STARTING:
                del self._starting[node_id]
                self._start(node)

    # -- the way out

    async def flush(self) -> None:
        """Send what there is. Where that fails it is tried again at the next call, five times in all."""
        async with self._flushing:
            while self._batch or self._queue:
                if not self._batch:
                    self._batch = [self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue)))]
                    self._tries = 0
                if not await self._send():
                    break
        if self._dropped:
            log.warning("spans lost", extra={"spans": self._dropped})
            self._dropped = 0

    async def _send(self) -> bool:
        """Whether there is any sense in going on."""
        self._tries += 1
        try:
            await self._export(self._batch)
        except NotSent as error:
            if not self._silent:  # once: an endpoint may be away for days
                log.warning("spans not sent", extra={"error": str(error)})
            self._silent = True
            if error.final or self._tries >= MAX_TRIES:
                self._dropped += len(self._batch)
                self._batch = ()
            return error.final
        self._silent = False
        self._batch = ()
        return True

    # -- inside

    def _launch(self, model: str, done: Done) -> None:
        waker = self._waker(model, done.began)
        brought_about = waker.trace if waker else None
        context = self._child(brought_about) if brought_about else self._root()
        told: dict[str, str] = {MODEL: model}
        if done.launched:
            told[NODE] = done.launched
            self._launches[done.launched] = brought_about or context
            if len(self._launches) > MAX_LAUNCHES:  # what was never seen starting
                del self._launches[next(iter(self._launches))]
        error = done.refusal.code if done.refusal else ""
        self._add(Span(context, "launch", done.began, self._clock(), told, error=error))

    def _start(self, node: Node) -> None:
        """It is no longer starting."""
        waker = self._waker(node.model, node.launched_at)
        parent = self._launches.pop(node.id, None) or (waker.trace if waker else None)
        if node.ready_at:  # else whoever waits may be served by the next
            self._wakers.pop(node.model, None)
        context = self._child(parent) if parent else self._root()
        error = "" if node.ready_at else _why_not(node)
        end = node.ready_at or self._clock()
        self._add(Span(context, "node start", node.launched_at, end, _of_node(node), error=error))
        phases = road(node)
        for record, following in zip(phases, [*phases[1:], None], strict=True):
            until = following.started_at if following else end
            self._within(context, str(record.phase), record.started_at, until, error="" if following else error)

    def _waker(self, model: str, began: float) -> Passage | None:
        """Whose trace tells of a start that began then: not of one who had gone before, unless their start goes on."""
        waker = self._wakers.get(model)
        goes_on = any(node.model == model for node in self._starting.values())
        if waker and 0 < waker.ended_at < began and not goes_on:
            del self._wakers[model]
            return None
        return waker

    def _trace_of_start(self, model: str) -> Context | None:
        """Where the start that goes on is told; None where none does, or whoever brought it about went away before."""
        starting = [node.id for node in self._starting.values() if node.model == model]
        launched = next((self._launches[each] for each in starting if each in self._launches), None)
        waker = self._wakers.get(model)
        return launched or (waker.trace if waker and (starting or not waker.ended_at) else None)

    def _within(self, parent: Context, name: str, start: float, end: float, *, error: str = "") -> None:
        self._add(Span(self._child(parent), name, start, end, error=error))

    def _add(self, span: Span) -> None:
        self._queue.append(span)
        if len(self._queue) > MAX_QUEUED:
            self._queue.popleft()
            self._dropped += 1

    def _root(self) -> Context:
        return Context(self._id(16), self._id(8))

    def _child(self, parent: Context) -> Context:
        return Context(parent.trace_id, self._id(8), parent.span_id)

    def _id(self, length: int) -> str:
        return self._entropy(length).hex()


def _of_request(passage: Passage) -> Attributes:
    told: dict[str, str | int | bool] = {
        "http.request.method": "POST",
        "http.route": passage.route,
        "http.response.status_code": passage.status,
        "diogenes.request_id": passage.request_id,
        "diogenes.cold": passage.cold,
    }
    if passage.model:
        told[MODEL] = passage.model
    if passage.node:
        told[NODE] = passage.node
    if passage.status == HUNG_UP:
        told["diogenes.hung_up"] = True
    return told


def _of_node(node: Node) -> Attributes:
    return {
        MODEL: node.model,
        NODE: node.id,
        "diogenes.instance_type": node.instance_type,
        "diogenes.market": node.market,
        "diogenes.zone": node.zone,
    }


def _why_not(node: Node) -> str:
    """A code: what an engine said in words may be anything."""
    if node.error:
        return node.error.code
    return "cancelled" if node.state is NodeState.DRAINING else "gone"
