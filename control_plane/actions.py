"""What a tick may do. Values only: ``plan`` decides on them, ``reconciler`` carries them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from control_plane.boots import Boot
from control_plane.nodes import UNASKED, Cause, Node, NodeId
from control_plane.ports import Group, Instance, Launch, Wish
from gpu_node.protocol import Failure


@dataclass(frozen=True)
class Start:
    """Launch one more node of the model: on the first group and zone that has one."""

    model: str
    cause: Cause = UNASKED


@dataclass(frozen=True)
class Hold:
    """People still wait: keep the wish alive."""

    wish: Wish


@dataclass(frozen=True)
class Repeat:
    """Nobody knows how this launch ended: call again with the same token."""

    launch: Launch


@dataclass(frozen=True)
class Abandon:
    launch: Launch


@dataclass(frozen=True)
class Claim:
    """Whose launch a node is that only its own agent has told of."""

    launch: Launch
    node: Node


@dataclass(frozen=True)
class Adopt:
    group: Group
    instance: Instance
    cause: Cause = UNASKED


@dataclass(frozen=True)
class Evict:
    """An instance that died stays in its group's count until it is taken out."""

    instance: Instance


@dataclass(frozen=True)
class Release:
    """Its group holds it until somebody says that it may go; nothing of ours needs it any more."""

    group: Group
    instance: Instance


@dataclass(frozen=True)
class Drain:
    node: Node
    reason: str


@dataclass(frozen=True)
class HandOver:
    """AWS is about to end it: what can be continued elsewhere is taken from it now, in good order."""

    node: Node


@dataclass(frozen=True)
class Fail:
    node: Node
    failure: Failure


@dataclass(frozen=True)
class Terminate:
    node: Node


@dataclass(frozen=True)
class Bury:
    """The cloud agrees that it is gone."""

    node: Node


@dataclass(frozen=True)
class Renew:
    node: Node
    lease_until: float
    last_request_at: float


@dataclass(frozen=True)
class CountFailure:
    model: str
    node: NodeId
    failure: Failure
    count: int
    log_tail: Sequence[str] = ()  # of the engine that failed; its node's row goes


@dataclass(frozen=True)
class NoteStart:
    """A start came to its good end: how long it took is the estimate for the next."""

    model: str
    boot: Boot
    forgives: bool = True  # the failures before it


@dataclass(frozen=True)
class Forgive:
    """A node has served long enough: what failed before it says nothing any more."""

    model: str
    failed_at: float  # of the last failure that is meant


@dataclass(frozen=True)
class Refuse:
    """Tell those who wait why, and take the wish back."""

    model: str
    failure: Failure
    wish: Wish | None
    before: float | None = None  # only those who began to wait before then


@dataclass(frozen=True)
class Fulfil:
    wish: Wish


Action = (
    Start
    | NoteStart
    | Forgive
    | Hold
    | Repeat
    | Abandon
    | Claim
    | Adopt
    | Evict
    | Release
    | Drain
    | HandOver
    | Fail
    | Terminate
    | Bury
    | Renew
    | CountFailure
    | Refuse
    | Fulfil
)


@dataclass(frozen=True)
class Done:
    """An action that took effect, or a launch that was refused for certain."""

    action: Action
    launched: NodeId | None = None  # the node that came of it
    refusal: Failure | None = None  # why none did
    began: float = field(default=0.0, compare=False)  # when it was begun; it is told when it took effect
