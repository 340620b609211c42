"""The outside world in memory: every port, true to its promises, with failures on demand.

They pass the same contract suite as the real adapters. All methods are synchronous inside, so atomic. Any of them
fails once with ``broken.fail(...)``: before its effect, or after it (a lost reply).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from control_plane.boots import Boot
from control_plane.errors import DiogenesError, Stale, Unavailable
from control_plane.event import Entry, Event, Stretch
from control_plane.nodes import MOVES, Node, NodeId
from control_plane.ports import KeyRow, Launch, ModelRow, Term, Wish
from gpu_node.protocol import Failure, NodeState

T = TypeVar("T")

KEEP_STARTS = 20
KEEP_COUNTED = 50
CLAIMED = ("group", "zone", "market", "launched_at", "cause", "micro_usd_per_hour", "launch_micro_usd")


class FakeClock:
    """A clock that stands still until it is told; ``sleep`` steps it."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def step(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.step(seconds)


class Faults:
    """What goes wrong next, by the name of the method."""

    def __init__(self) -> None:
        self._before: dict[str, list[DiogenesError]] = defaultdict(list)
        self._after: dict[str, list[DiogenesError]] = defaultdict(list)

    def fail(self, method: str, error: DiogenesError | None = None, *, times: int = 1) -> None:
        """The next calls fail and do nothing; Unavailable unless told otherwise."""
        self._before[method] += [error or Unavailable(method)] * times

    def lose_reply(self, method: str, *, times: int = 1) -> None:
        """The next calls take effect, and answer Unavailable all the same."""
        self._after[method] += [Unavailable(f"{method}: the reply was lost")] * times

    def check(self, method: str) -> None:
        if self._before[method]:
            raise self._before[method].pop(0)

    def result(self, method: str, value: T) -> T:
        if self._after[method]:
            raise self._after[method].pop(0)
        return value


@dataclass
class Fallible:
    """Every public method of a subclass fails when ``broken`` says so."""

    broken: Faults = field(default_factory=Faults, init=False)

    def __init_subclass__(cls) -> None:
        for name, method in list(vars(cls).items()):
            if iscoroutinefunction(method) and not name.startswith("_"):
                setattr(cls, name, _fallible(method))


def _fallible(method: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    @wraps(method)
    async def call(self: Fallible, *args: Any, **kwargs: Any) -> T:
        self.broken.check(method.__name__)
        return self.broken.result(method.__name__, await method(self, *args, **kwargs))

    return call


def changed(row: Node, **changes: Any) -> Node:
    """As ``replace``, for a row of many fields that is written all the time."""
    written: Node = object.__new__(Node)
    written.__dict__.update(row.__dict__, **changes)
    return written


@dataclass
class MemoryNodes(Fallible):
    """``rows`` may be written by a test, in the place of a node's agent."""

    rows: dict[NodeId, Node] = field(default_factory=dict)

    async def list(self) -> Sequence[Node]:
        return [node for node in self.rows.values() if node.state is not NodeState.TERMINATED]

    async def add(self, node: Node) -> None:
        if node.id in self.rows:
            raise Stale(node.id)
        self.rows[node.id] = node

    async def claim(self, node: Node) -> None:
        row = self._living(node.id)
        known = {name: getattr(node, name) for name in CLAIMED}
        self.rows[node.id] = replace(row, **known, lease_until=max(row.lease_until, node.lease_until))

    async def move(
        self,
        node_id: NodeId,
        source: NodeState,
        target: NodeState,
        *,
        at: float,
        reason: str,
        error: Failure | None = None,
    ) -> None:
        assert target in MOVES[source], f"no move from {source} to {target}"
        row = self.rows.get(node_id)
        if row is None or row.state is not source:
            raise Stale(node_id)
        self.rows[node_id] = changed(row, state=target, reason=reason, error=error or row.error, **_stamps(target, at))

    async def renew(self, node_id: NodeId, *, lease_until: float, last_request_at: float) -> None:
        row = self._living(node_id)
        lease, last = max(row.lease_until, lease_until), max(row.last_request_at, last_request_at)
        self.rows[node_id] = changed(row, lease_until=lease, last_request_at=last)

    def _living(self, node_id: NodeId) -> Node:
        row = self.rows.get(node_id)
        if row is None or row.state is NodeState.TERMINATED:
            raise Stale(node_id)
        return row


def _stamps(target: NodeState, at: float) -> dict[str, Any]:
    match target:
        case NodeState.READY:
            return {"ready_at": at}
        case NodeState.DRAINING:
            return {"draining_since": at}
        case NodeState.TERMINATED:
            return {"terminated_at": at, "log_tail": (), "phases": ()}
        case _:
            return {}


@dataclass
class MemoryWishes(Fallible):
    rows: dict[str, Wish] = field(default_factory=dict)

    async def list(self) -> Sequence[Wish]:
        return list(self.rows.values())

    async def ask(self, wish: Wish) -> bool:
        wakes = wish.model not in self.rows or self.rows[wish.model].hold_until <= wish.asked_at
        row = self.rows.get(wish.model, replace(wish, version=0, keep_awake_until=0.0))
        if wish.hold_until >= row.hold_until:
            row = replace(wish, keep_awake_until=row.keep_awake_until, version=row.version)
        elif wish.desired > row.desired:
            row = replace(row, desired=wish.desired, by=wish.by, asked_at=wish.asked_at)
        self._write(row)
        return wakes

    async def keep_awake(self, model: str, until: float, *, by: str, at: float) -> None:
        row = self.rows.get(model, Wish(model, desired=1, hold_until=0.0, by=by, asked_at=at))
        self._write(replace(row, keep_awake_until=until, by=by, asked_at=at))

    async def sleep(self, model: str, *, by: str, at: float) -> None:
        version = self.rows[model].version if model in self.rows else 0
        self._write(Wish(model, desired=0, hold_until=0.0, by=by, asked_at=at, version=version))

    async def drop(self, wish: Wish) -> None:
        row = self.rows.get(wish.model, wish)
        if (row.version, row.asked_at) != (wish.version, wish.asked_at):
            raise Stale(wish.model)
        self.rows.pop(wish.model, None)

    def _write(self, wish: Wish) -> None:
        self.rows[wish.model] = replace(wish, version=wish.version + 1)


@dataclass
class MemoryLaunches(Fallible):
    rows: dict[str, Launch] = field(default_factory=dict)

    async def list(self) -> Sequence[Launch]:
        return list(self.rows.values())

    async def intend(self, launch: Launch) -> None:
        if launch.token in self.rows:
            raise Stale(launch.token)
        self.rows[launch.token] = launch

    async def settle(self, token: str) -> None:
        self.rows.pop(token, None)


@dataclass
class MemoryModels(Fallible):
    rows: dict[str, ModelRow] = field(default_factory=dict)

    async def list(self) -> Sequence[ModelRow]:
        return sorted(self.rows.values(), key=lambda row: row.name)

    async def seed(self, name: str, config: Mapping[str, Any], *, place: int | None = None) -> None:
        """What `pulumi up` does."""
        row = self.rows.get(name, ModelRow(name, config={}))
        if name not in self.rows or row.config != config:
            self.rows[name] = _forgiven(row, config=dict(config), adopted=False, place=place)

    async def adopt(self, name: str, config: Mapping[str, Any]) -> None:
        row = self.rows.get(name)
        if row and row.config == config:
            self.rows[name] = replace(row, adopted=True)

    async def set_override(self, name: str, override: Mapping[str, Any], *, expected: Mapping[str, Any]) -> None:
        row = self._known(name)
        if row.override != expected:
            raise Stale(name)
        self.rows[name] = _forgiven(row, override=dict(override))

    async def started(self, name: str, boot: Boot, *, forgives: bool = True) -> None:
        row = self._known(name)
        boots = (*row.boots, boot)[-KEEP_STARTS:]
        self.rows[name] = _forgiven(row, boots=boots) if forgives else replace(row, boots=boots)

    async def failed(
        self, name: str, failure: Failure, *, node: NodeId, at: float, count: int, log_tail: Sequence[str] = ()
    ) -> None:
        row = self._known(name)
        if node in row.counted:
            return
        if count > 1 and row.failures != count - 1:
            raise Stale(name)
        counted = (*row.counted, node)[-KEEP_COUNTED:]
        log = tuple(log_tail)[-200:]
        self.rows[name] = replace(row, failures=count, failure=failure, failed_at=at, failure_log=log, counted=counted)

    async def refused(self, name: str, failure: Failure, *, at: float) -> None:
        self.rows[name] = replace(self._known(name), refusal=failure, refused_at=at)

    async def forgive(self, name: str, *, failed_at: float | None = None) -> None:
        row = self._known(name)
        if failed_at is not None and row.failed_at != failed_at:
            raise Stale(name)
        self.rows[name] = _forgiven(row)

    def _known(self, name: str) -> ModelRow:
        if name not in self.rows:
            raise Stale(name)
        return self.rows[name]


def _forgiven(row: ModelRow, **changes: Any) -> ModelRow:
    return replace(row, failures=0, failure=None, failure_log=(), refusal=None, **changes)


@dataclass
class MemoryKeys(Fallible):
    rows: dict[str, KeyRow] = field(default_factory=dict)
    lists: int = 0  # how often they were read

    async def list(self) -> Sequence[KeyRow]:
        self.lists += 1
        return sorted(self.rows.values(), key=lambda row: (row.created_at, row.key_hash))

    async def add(self, row: KeyRow) -> None:
        if row.key_hash in self.rows:
            raise Stale(row.id)
        self.rows[row.key_hash] = row

    async def revoke(self, key_hash: str, email: str) -> None:
        if key_hash not in self.rows or self.rows[key_hash].email != email:
            raise Stale(key_hash[:16])
        del self.rows[key_hash]

    async def used(self, key_hash: str, at: float) -> None:
        if key_hash not in self.rows:
            raise Stale(key_hash[:16])
        row = self.rows[key_hash]
        self.rows[key_hash] = replace(row, last_used_at=max(row.last_used_at, at))


@dataclass
class MemoryEvents(Fallible):
    entries: list[Entry] = field(default_factory=list)
    first: int = 1  # what is older went
    _counted: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> list[Event]:
        return [entry.event for entry in self.entries]

    async def add(self, events: Sequence[Event], *, writer: str, number: int) -> bool:
        if not events or self._counted.get(writer, 0) >= number:
            return False
        self._counted[writer] = number
        self.entries += [Entry(place, event) for place, event in enumerate(events, len(self.entries) + 1)]
        return True

    async def end(self) -> int:
        return len(self.entries)

    async def after(self, number: int, *, limit: int) -> Stretch:
        found = [entry for entry in self.entries[max(number, 0) :] if entry.number >= self.first][:limit]
        return Stretch(found, found[-1].number if len(found) == limit else max(number, len(self.entries)))

    async def before(self, number: int, *, limit: int) -> Stretch:
        found = [entry for entry in reversed(self.entries[: max(number - 1, 0)]) if entry.number >= self.first][:limit]
        return Stretch(found, found[-1].number if len(found) == limit else 1)


@dataclass
class MemoryFence(Fallible):
    clock: Callable[[], float] = field(default_factory=FakeClock)
    epoch: int = 0
    holder: str = ""
    seen: float = 0.0
    ousted_at: float = 0.0

    async def take(self, holder: str) -> Term:
        if self.seen:
            self.ousted_at = self.clock()
        self.epoch, self.holder, self.seen = self.epoch + 1, holder, self.clock()
        return Term(self.epoch, self.ousted_at)

    async def take_over(self, holder: str, *, silent_s: float) -> Term:
        if self.epoch and self.seen > self.clock() - silent_s:
            raise Stale("the holder gave a sign of life")
        return await MemoryFence.take(self, holder)

    async def release(self, term: Term) -> None:
        await MemoryFence.hold(self, term)
        self.seen = 0.0

    async def hold(self, term: Term) -> None:
        if term.epoch != self.epoch:
            raise Stale("another reconciler took over")
        self.seen = self.clock()

    async def seen_at(self) -> float:
        return self.seen


@dataclass
class MemoryProbe:
    """Every engine answers, but for those in ``silent``."""

    silent: set[NodeId] = field(default_factory=set)

    async def __call__(self, node: Node) -> bool:
        return bool(node.ip) and node.id not in self.silent
