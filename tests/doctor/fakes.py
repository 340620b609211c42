"""An account, a hub and a web in memory, healthy unless a test says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from control_plane.doctor.diagnosis import Doctor
from control_plane.doctor.finding import Finding
from control_plane.doctor.ports import CannotLook, Fleet, House, Machine, Outside, Page
from control_plane.doctor.stack import StackFile
from control_plane.geometry import Geometry, Unread
from control_plane.hub import Access, Reading
from control_plane.model import Model
from control_plane.nodes import Node, NodeId
from control_plane.ports import Front, FrontState, Group, Instance, ModelRow, Stage
from control_plane.quotas import LAMBDA_EXECUTIONS
from control_plane.schema import TABLES
from gpu_node.protocol import NodeState

NOW = 1_000_000.0
LONG_AGO = NOW - 3600
REGION = "us-east-1"
NAME = "Qwen/Qwen3-14B-AWQ"
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")

# Of NAME, so that its fit can be checked without the hub.
GEOMETRY = {
    "parameters": 14768307200,
    "embeddingParameters": 1555824640,
    "layers": 40,
    "kvHeads": 8,
    "headDim": 128,
    "hiddenSize": 5120,
    "intermediateSize": 17408,
    "vocabSize": 151936,
    "attentionHeads": 40,
    "maxModelLen": 40960,
    "quantization": "awq4-g128",
}

EMPTY = Fleet(machines=(), nodes=(), groups=(), rows=(), wishes=())
ASLEEP = House(Front(), Stage(desired=0, healthy=False, facing_control_plane=False), running=0)
AWAKE = House(
    Front(FrontState.AWAKE, epoch=4, since=LONG_AGO),
    Stage(desired=1, healthy=True, facing_control_plane=True),
    running=1,
)


def config(name: str = NAME, **changes: Any) -> dict[str, Any]:
    known = {"instanceTypes": ["g5.xlarge"], "vllmArgs": "--max-model-len 32768", "geometry": GEOMETRY}
    return {"name": name, **known, **changes}


def model(name: str = NAME, **changes: Any) -> Model:
    return Model.parse(config(name, **changes))


def row(name: str = NAME, **changes: Any) -> ModelRow:
    return ModelRow(name, config(name), **changes)


def node(node_id: str = "i-1", **changes: Any) -> Node:
    known: dict[str, Any] = {
        "model": NAME,
        "state": NodeState.READY,
        "group": "group",
        "zone": "us-east-1a",
        "instance_type": "g5.xlarge",
        "market": "on-demand",
        "launched_at": LONG_AGO,
        "lease_until": NOW + 300,
    }
    return Node(id=NodeId(node_id), **(known | changes))


def group(name: str = NAME, *, instances: Sequence[Instance] = ()) -> Group:
    return Group("group", name, "on-demand", ZONES, max_size=9, desired=len(instances), instances=instances)


def machine(machine_id: str = "i-1", *, launched_at: float = LONG_AGO) -> Machine:
    return Machine(machine_id, "g5.xlarge", launched_at)


@dataclass
class FakeAccount:
    """Account in memory. A CannotLook in ``troubles`` is raised by the method of that name."""

    quotas: dict[str, float] = field(
        default_factory=lambda: {"L-DB2E81BA": 96.0, "L-3819A6DF": 96.0, "L-B99A9384": 1000.0}
    )
    offered: dict[str, Sequence[str]] = field(default_factory=lambda: {"g5.xlarge": ZONES})
    deployed: bool = True
    things: Fleet = field(default_factory=lambda: Fleet((), (), (group(),), (row(),), ()))
    front: House | None = ASLEEP
    domain: str | None = "d1.cloudfront.net"
    token: str | None = None
    enabled: bool = True
    troubles: dict[str, CannotLook] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    hangs: str = ""  # the method that never answers

    async def _ask(self, name: str) -> None:
        self.asked.append(name)
        if name == self.hangs:
            await asyncio.Event().wait()
        if trouble := self.troubles.get(name):
            raise trouble

    async def identity(self) -> str:
        await self._ask("identity")
        return "arn:aws:iam::123456789012:user/you"

    async def region_enabled(self) -> bool:
        await self._ask("region_enabled")
        return self.enabled

    async def quota(self, code: str, service: str = "ec2") -> float:
        assert (service == "lambda") is (code == LAMBDA_EXECUTIONS)
        await self._ask("quota")
        return self.quotas[code]

    async def zones(self) -> Mapping[str, str]:
        await self._ask("zones")
        ids = {"a": "use1-az6", "b": "use1-az1", "c": "use1-az2", "d": "use1-az4", "e": "use1-az3", "f": "use1-az5"}
        return {f"us-east-1{letter}": zone_id for letter, zone_id in ids.items()}

    async def offerings(self, instance_types: Sequence[str]) -> Mapping[str, Sequence[str]]:
        await self._ask("offerings")
        return {name: self.offered.get(name, ()) for name in instance_types}

    async def hub_token(self) -> str | None:
        await self._ask("hub_token")
        return self.token

    async def tables(self) -> frozenset[str]:
        await self._ask("tables")
        return frozenset(table.name for table in TABLES) if self.deployed else frozenset()

    async def fleet(self) -> Fleet:
        await self._ask("fleet")
        return self.things

    async def house(self) -> House | None:
        await self._ask("house")
        return self.front

    async def site_domain(self) -> str | None:
        await self._ask("site_domain")
        return self.domain


@dataclass
class FakeWeb:
    """Web in memory: what is not listed answers as a healthy deployment does."""

    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def get(self, url: str) -> Page:
        self.asked.append(url)
        healthy = Page(401, "application/json") if "/v1/" in url else Page(200, "text/html")
        return self.pages.get(url, healthy)


@dataclass
class FakeHub:
    """The hub: everything can be read unless listed."""

    answers: dict[str, Access] = field(default_factory=dict)
    tokens: list[str | None] = field(default_factory=list)

    def __call__(self, repository: str, revision: str | None, token: str | None) -> Reading:
        self.tokens.append(token)
        access = self.answers.get(repository, Access.READ)
        return Reading(access, f"{repository} is {access}")


@dataclass
class Patient:
    """A stack and all that the doctor sees of it."""

    account: FakeAccount | None = field(default_factory=FakeAccount)
    web: FakeWeb = field(default_factory=FakeWeb)
    hub: FakeHub = field(default_factory=FakeHub)
    values: dict[str, Any] = field(default_factory=dict)
    region: str | None = REGION
    limit_s: float = 5.0
    hub_token: str | None = None

    async def diagnosis(self) -> list[Finding]:
        values = {"models": [config()], "allowedEmails": ["me@example.com"], "keysOnly": True, "zones": 3}
        doctor = Doctor(
            StackFile("diogenes", "prod", self.region, values | self.values),
            Outside(self.web, self.hub, hub_token=self.hub_token, account=self.account),
            region=self.region,
            read_geometry=_unread,
            clock=lambda: NOW,
            limit_s=self.limit_s,
        )
        return await doctor.diagnosis()

    async def found(self, check: str) -> Finding:
        """The one finding of this name."""
        [found] = [finding for finding in await self.diagnosis() if finding.check == check]
        return found


def _unread(repository: str, revision: str | None) -> Geometry | Unread:
    return Unread("nobody asked", asked=False)
