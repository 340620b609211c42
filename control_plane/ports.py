"""The outside world on one screen: what the control plane needs of DynamoDB, of AWS and of an engine.

Every adapter answers in these terms and translates its own errors: a lost conditional write raises
``errors.Stale``; an AWS that does not answer, or throttles, raises ``errors.Unavailable``. All times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from control_plane.books import Lifetime
from control_plane.boots import Boot, percentile
from control_plane.event import Event, Stretch
from control_plane.nodes import UNASKED, Cause, Node, NodeId
from gpu_node.protocol import Failure, NodeState

Clock = Callable[[], float]
"""Now, in Unix seconds."""


# -- what is stored ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """Somebody wants nodes of a model. Written before anything is spent on it; one item a model."""

    model: str
    desired: int  # nodes; 0 = put to sleep by hand
    hold_until: float  # keep starting until then, even with nobody waiting
    by: str  # who asked last: an email address
    asked_at: float
    keep_awake_until: float = 0.0
    version: int = 0  # counts writes; a delete names the version it read
    key: str = ""  # the id of the API key that asked last
    speculative: bool = False  # a model was picked, and nothing asked yet

    @property
    def cause(self) -> Cause:
        """Who pays for a start because of it."""
        return Cause(self.by, self.key, self.speculative) if self.by else UNASKED

    def stands(self, now: float) -> bool:
        """Is there still something to start for it? What it keeps awake is there already, and counts by itself."""
        return self.desired > 0 and self.hold_until > now


def wish_of(cause: Cause, model: str, *, now: float) -> Wish:
    """For one node, on this account; it holds nothing yet."""
    by = "" if cause == UNASKED else cause.owner
    return Wish(model, 1, 0.0, by, now, key=cause.key, speculative=cause.speculative)


@dataclass(frozen=True)
class Launch:
    """The intent to launch one instance; stands before the call, so that a crash leaves a row, never an unknown GPU."""

    token: str  # the client token of the call: the same token is the same instance
    model: str
    group: str
    zone: str
    market: str
    at: float
    cause: Cause = UNASKED


@dataclass(frozen=True)
class ModelRow:
    """One model of the ``models`` table: what Pulumi configured, what the UI changed, how starts went."""

    name: str
    config: Mapping[str, Any]
    override: Mapping[str, Any] = field(default_factory=dict)
    boots: Sequence[Boot] = ()  # the last starts, oldest first
    failures: int = 0  # starts that failed in a row
    failure: Failure | None = None  # the last of them
    failure_log: Sequence[str] = ()  # the engine's last lines before it
    failed_at: float = 0.0  # when the last failure was counted; stays when it is forgiven
    counted: Sequence[NodeId] = ()  # whose failures those were, the newest last; stays too: none is counted anew
    refusal: Failure | None = None  # why the last launch since was refused: no start, and so none that failed
    refused_at: float = 0.0
    adopted: bool = True  # False: this configuration is new, and nodes could not read it yet
    place: int | None = None  # in the stack's list of models; None: written by an older deployment

    @property
    def usual_start_s(self) -> float | None:
        """How long a start takes: the median of the last ones."""
        return percentile([boot.seconds for boot in self.boots], 0.5) if self.boots else None


@dataclass(frozen=True)
class KeyRow:
    """One row of the ``api_keys`` table. The key itself is never stored."""

    key_hash: str  # SHA-256 of the key, hex
    email: str
    name: str
    created_at: float
    prefix: str  # the key's first characters, for display
    last_used_at: float = 0.0
    wait_s: float | None = None  # the most its requests wait for a start, where they do not say; None: as configured
    expires_at: float | None = None
    models: Sequence[str] = ()  # that it may ask; empty: all
    requests_per_minute: int | None = None  # to models
    monthly_budget_usd: float | None = None  # what its requests may cost in a month (UTC)
    made_by: str = ""  # the id of the key with which somebody asked for it, and which it does not outlive; empty: none

    @property
    def id(self) -> str:
        """What the API calls the key: a prefix of its hash."""
        return self.key_hash[:16]

    @property
    def limited(self) -> bool:
        """It may do less than its owner, and so must not make another key, or change anything else."""
        limits = (self.expires_at, self.requests_per_minute, self.monthly_budget_usd)
        return bool(self.models) or any(limit is not None for limit in limits)


class NodeStore(Protocol):
    async def list(self) -> Sequence[Node]:
        """Every node that is not TERMINATED."""

    async def add(self, node: Node) -> None:
        """A new row. Raises Stale when the instance has one already (its agent was faster)."""

    async def claim(self, node: Node) -> None:
        """Fill in what only the launch knows (group, lease) on a row that the agent wrote first. Raises Stale."""

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
        """One move of the table of moves. Raises Stale when the row is not in ``source`` (any more)."""

    async def renew(self, node_id: NodeId, *, lease_until: float, last_request_at: float) -> None:
        """A longer lease. Raises Stale when the row is gone or the node is terminated."""


class WishStore(Protocol):
    async def list(self) -> Sequence[Wish]: ...

    async def ask(self, wish: Wish) -> bool:
        """Record the wish. An older ``hold_until`` never shortens a newer one; keep-awake is left alone.

        True where it wakes the model: nobody's wish held any more when this one was made.
        """

    async def keep_awake(self, model: str, until: float, *, by: str, at: float) -> None:
        """Keep the model's nodes until then; 0 takes it back."""

    async def sleep(self, model: str, *, by: str, at: float) -> None:
        """Desired 0, no hold, no keep-awake."""

    async def drop(self, wish: Wish) -> None:
        """Remove it. Raises Stale when somebody asked again since it was read."""


class LaunchStore(Protocol):
    async def list(self) -> Sequence[Launch]: ...

    async def intend(self, launch: Launch) -> None:
        """Raises Stale when the token is known."""

    async def settle(self, token: str) -> None:
        """The outcome is known and stands elsewhere. Doing it twice is doing it once."""


class ModelStore(Protocol):
    async def list(self) -> Sequence[ModelRow]: ...

    async def adopt(self, name: str, config: Mapping[str, Any]) -> None:
        """Let nodes read this configuration. Override and history are left alone; a changed one clears failures."""

    async def set_override(self, name: str, override: Mapping[str, Any], *, expected: Mapping[str, Any]) -> None:
        """Replace the override. Raises Stale when it is not ``expected`` any more. Clears failures."""

    async def started(self, name: str, boot: Boot, *, forgives: bool = True) -> None:
        """One start that succeeded: adds to the history; clears failures where it ``forgives``."""

    async def failed(
        self, name: str, failure: Failure, *, node: NodeId, at: float, count: int, log_tail: Sequence[str] = ()
    ) -> None:
        """The ``count``-th failed start in a row, from 1, was this node's; counted once, however often it is told.

        Raises Stale where another is counted, or all were forgiven, since the row was read.
        """

    async def refused(self, name: str, failure: Failure, *, at: float) -> None:
        """A launch was refused: remembered, and nothing of the failed starts before it forgotten."""

    async def forgive(self, name: str, *, failed_at: float | None = None) -> None:
        """Forget failures and refusals: a person asks again, or a node serves.

        ``failed_at`` names the last failure that is meant; raises Stale where another was counted since.
        """


class KeyStore(Protocol):
    async def list(self) -> Sequence[KeyRow]:
        """Everybody's keys, oldest first."""

    async def add(self, row: KeyRow) -> None:
        """Raises Stale when the hash exists."""

    async def revoke(self, key_hash: str, email: str) -> None:
        """Raises Stale when there is no such key of that owner."""

    async def used(self, key_hash: str, at: float) -> None:
        """Remember the last use. Raises Stale when the key is gone."""


class EventStore(Protocol):
    """A log with one order, whoever writes: each entry has the next number, and is seen after every one before it.

    Entries go after a month; their numbers stay theirs.
    """

    async def add(self, events: Sequence[Event], *, writer: str, number: int) -> bool:
        """Append them, together. The same ``number`` of the same ``writer`` counts once, however often it is sent in a
        month; numbers rise. Were they appended? False: they are there already. Raises Unavailable: they may be."""

    async def end(self) -> int:
        """The newest number up to which everything can be read; 0 where there is nothing. Raises Unavailable."""

    async def after(self, number: int, *, limit: int) -> Stretch:
        """Oldest first, from the next number on; ``reached`` is where to go on. Raises Unavailable."""

    async def before(self, number: int, *, limit: int) -> Stretch:
        """Newest first, from the number below on; ``reached`` is where to go on, 1 where nothing is left.
        Raises Unavailable."""


@dataclass(frozen=True)
class Term:
    """One reconciler's time in office."""

    epoch: int
    ousted_at: float  # when anybody last took it from one that had not let go, whose task may still serve; or 0


class Fence(Protocol):
    async def take(self, holder: str) -> Term:
        """Become the one reconciler: a new epoch, higher than every one before."""

    async def take_over(self, holder: str, *, silent_s: float) -> Term:
        """The same, but only from a holder that was silent for so long, or let go. Raises Stale."""

    async def release(self, term: Term) -> None:
        """Let go: whoever comes next need not wait, nor think of a task that still serves. Raises Stale."""

    async def hold(self, term: Term) -> None:
        """Show that the holder lives. Raises Stale when somebody took a newer epoch."""

    async def seen_at(self) -> float:
        """When the newest holder last showed that; 0 when there was never one."""


# -- what acts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instance:
    """One instance of an Auto Scaling group, as the cloud tells it."""

    id: NodeId
    zone: str
    instance_type: str
    alive: bool  # in service or on its way there, and healthy
    leaving: bool = False  # its group is taking it down already
    held: bool = False  # leaving, but up and serving until it is released, or its group's hook runs out of patience


@dataclass(frozen=True)
class Group:
    """One Auto Scaling group of ours: one model on one market."""

    name: str
    model: str
    market: str  # "on-demand" or "spot"
    zones: Sequence[str]
    max_size: int
    desired: int
    instances: Sequence[Instance] = ()


class Cloud(Protocol):
    async def groups(self) -> Sequence[Group]:
        """Every Auto Scaling group that carries our tags, whether or not its model is still configured."""

    async def launch(self, launch: Launch) -> Instance:
        """One instance now, or LaunchRefused. The same token never launches twice."""

    async def terminate(self, node_id: NodeId) -> None:
        """Take it out of its group and lower the group's desired capacity. An instance already gone is no error.

        A group with the hook ``drain`` holds the instance first: it ends when it is released.
        """

    async def release(self, node_id: NodeId, group: str) -> None:
        """Let its group take it down now. An instance that is not held, or already gone, is no error."""

    async def lifetime(self, node_id: NodeId) -> Lifetime:
        """When it was launched and when it ended; what the cloud does not know (any more) is None."""

    async def spot_usd_per_hour(self, instance_type: str, zone: str) -> float | None:
        """What an hour on Spot costs now; None where the cloud does not say."""


class Probe(Protocol):
    async def __call__(self, node: Node) -> bool:
        """Does the engine answer its health check within a short time?"""


# -- who answers ---------------------------------------------------------------------------------------------------


class FrontState(StrEnum):
    """Whether the control plane runs, as everybody has agreed on it."""

    ASLEEP = "asleep"  # no task; the night watch answers
    WAKING = "waking"  # somebody wants it; the night watch answers until it is healthy
    AWAKE = "awake"  # it answers
    FALLING_ASLEEP = "falling-asleep"  # the night watch answers again; it still serves what arrives late


@dataclass(frozen=True)
class Front:
    """The one item that all agree on; every move raises its epoch."""

    state: FrontState = FrontState.ASLEEP
    epoch: int = 0
    since: float = 0.0
    looked_at: float = 0.0  # when one of those who wait last took it upon themselves to look at AWS for all of them
    failure: Failure | None = None  # why the last wake was given up; None once the control plane was awake again
    failed_at: float = 0.0


@dataclass(frozen=True)
class Stage:
    """What AWS shows of the front right now."""

    desired: int  # tasks that the service shall run
    healthy: bool  # the load balancer found the control plane healthy
    facing_control_plane: bool  # where the listener sends requests
    last_word: str = ""  # what the service said last, to whoever reads it
    draining: frozenset[str] = frozenset()  # addresses of tasks that the load balancer takes out
    standing: frozenset[str] = frozenset()  # of those that it keeps, healthy or not


@dataclass(frozen=True)
class Ending:
    """One task of the control plane that ended although nobody had told it to."""

    why: str  # in AWS's own words, with its exit code where it had one
    fix: str  # what to do about it


class FrontStore(Protocol):
    async def read(self) -> Front: ...

    async def move(self, front: Front, target: FrontState, *, at: float, failure: Failure | None = None) -> Front:
        """One move; the front as it is then. Raises Stale when somebody else moved it since it was read.

        ``failure`` is why a wake is given up. It stands until the control plane is awake, whatever is moved meanwhile.
        """

    async def claim(self, front: Front, *, at: float) -> None:
        """Look at AWS for all who wait. Raises Stale when somebody else did so since it was read."""


class StageHands(Protocol):
    """The service and the listener."""

    async def look(self) -> Stage: ...

    async def endings(self, since: float) -> Sequence[Ending]:
        """Of the tasks that were started since then, those that ended by themselves; the newest first."""

    async def want(self, tasks: int) -> None:
        """So many tasks, of the newest task definition. Doing it twice is doing it once."""

    async def face(self, *, control_plane: bool) -> None:
        """Send new requests to the control plane, or to the night watch."""
