"""The outside world, as an application is given it."""

from __future__ import annotations

from dataclasses import dataclass, field

from control_plane.books import LimitStore, UsageStore
from control_plane.effects import Stores
from control_plane.holds import HoldStore
from control_plane.people import PeopleAdapters
from control_plane.ports import Cloud, EventStore, FrontStore, KeyStore, Probe, StageHands
from control_plane.repositories import AskHub


@dataclass(frozen=True)
class FrontAdapters:
    """What is needed to sleep and to wake."""

    store: FrontStore
    hands: StageHands
    holds: HoldStore
    address: str = ""  # by which this process is a target of the load balancer; empty: it is none, or does not know


@dataclass(frozen=True)
class Adapters:
    """The outside world: AWS in production, memory in tests."""

    stores: Stores
    keys: KeyStore
    usage: UsageStore
    cloud: Cloud
    probe: Probe
    front: FrontAdapters | None = None  # None: nothing stands in front that could be turned
    events: EventStore | None = None  # None: nobody keeps them
    hub: AskHub | None = None  # None: nobody asks whether a repository can be read
    shapes: AskHub | None = None  # None: nobody reads what the hub says of a model
    people: PeopleAdapters = field(kw_only=True)
    limits: LimitStore | None = None  # None: what is configured holds, and cannot be changed
