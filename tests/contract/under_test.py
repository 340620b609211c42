"""What the contract suite is run against."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.books import LimitStore, UsageStore
from control_plane.people import OverrideStore, SessionStore
from control_plane.ports import Fence, KeyStore, LaunchStore, ModelStore, NodeStore, WishStore
from rehearsal.account import Account
from rehearsal.faults import Faults


@dataclass(frozen=True)
class Stores:
    nodes: NodeStore
    wishes: WishStore
    launches: LaunchStore
    models: ModelStore
    keys: KeyStore
    usage: UsageStore
    limits: LimitStore
    fence: Fence
    sessions: SessionStore
    overrides: OverrideStore


@dataclass(frozen=True)
class Desk:
    account: Account
    faults: Faults
    url: str
