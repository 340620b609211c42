"""What the doctor needs of the outside: an AWS account, Hugging Face's hub, and a browser's first request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from control_plane.hub import Reading
from control_plane.nodes import Node
from control_plane.ports import Front, Group, ModelRow, Stage, Wish


class CannotLook(Exception):
    """A question that got no answer: ``why``, and what to do so that it gets one."""

    def __init__(self, why: str, fix: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.fix = fix


class NoCredentials(CannotLook):
    """AWS does not know who asks."""


class Denied(CannotLook):
    """AWS knows who asks, and does not let them."""

    def __init__(self, permission: str) -> None:
        super().__init__(
            f"the permission {permission} is missing", f"allow {permission} to whoever runs this (it reads only)"
        )
        self.permission = permission


@dataclass(frozen=True)
class Machine:
    """One instance that carries our tag and is not terminated. ``launched_at``: Unix seconds."""

    id: str
    instance_type: str
    launched_at: float


@dataclass(frozen=True)
class Fleet:
    """What runs, and what the tables say of it, read at one time."""

    machines: Sequence[Machine]
    nodes: Sequence[Node]  # rows of nodes that are not terminated
    groups: Sequence[Group]
    rows: Sequence[ModelRow]
    wishes: Sequence[Wish]


@dataclass(frozen=True)
class House:
    """The control plane as its table, its service and its listener show it."""

    front: Front
    stage: Stage
    running: int  # tasks
    last_word: str = ""  # the service's newest event


@dataclass(frozen=True)
class Page:
    """An answer to GET; status 0 where there was none, and then ``trouble`` says why."""

    status: int
    kind: str = ""  # content type
    trouble: str = ""


class Account(Protocol):
    """The AWS account, read only. Everything raises CannotLook."""

    async def identity(self) -> str:
        """The ARN of whoever asks."""

    async def region_enabled(self) -> bool:
        """Whether this account may use the region at all."""

    async def quota(self, code: str, service: str = "ec2") -> float:
        """One of a service's quotas."""

    async def zones(self) -> Mapping[str, str]:
        """The region's ordinary Availability Zones, by name, with their ids."""

    async def offerings(self, instance_types: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """The zones (names) that offer each of these types."""

    async def hub_token(self) -> str | None:
        """The Hugging Face token that was deployed; None where there is none."""

    async def tables(self) -> frozenset[str]:
        """Which of our tables are there, without the namespace."""

    async def fleet(self) -> Fleet: ...

    async def house(self) -> House | None:
        """None where the service or its load balancer is not there."""

    async def site_domain(self) -> str | None:
        """CloudFront's name of our distribution; None where there is none."""


class Web(Protocol):
    async def get(self, url: str) -> Page: ...


AskHub = Callable[[str, str | None, str | None], Reading]
"""A repository, its revision, and a token or none, to what the hub says. Blocks."""


@dataclass(frozen=True)
class Outside:
    """All of it. Without an account: the region is not known."""

    web: Web
    ask_hub: AskHub = field(repr=False)
    hub_token: str | None = field(default=None, repr=False)  # the operator's own, preferred to the deployed one
    account: Account | None = None
