"""Diogenes as a contender: the real control plane, over an emulated AWS account where one node stands ready.

Nothing of the control plane is replaced: it checks the key in DynamoDB, reads the node's row, reconciles, writes
usage. The node's row says that the bench's engine is its engine, and that its agent and lease are good for a day.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import boto3

from control_plane.api_keys import SHOWN_CHARS, hash_key, mint
from control_plane.ports import KeyRow
from control_plane.schema import API_KEYS, INSTANCES, Table
from gpu_node.protocol import NodeState, to_attributes
from rehearsal.account import REGION, Account
from rehearsal.account_server import AccountServer
from rehearsal.faults import Faults
from rehearsal.groups import Member
from rehearsal.program import PROJECT
from rehearsal.stack import OWNER, apply
from tests.bench.client import Target
from tests.bench.contenders import ENGINE, MODEL, Recipe, address_of

_STACK = "bench"
_NAMESPACE = f"{PROJECT}-{_STACK}"
_HOME = Path(__file__).parents[2]
_KEY = mint(bytes(32))
_DAY_S = 86400.0
_CONFIG = {"name": MODEL, "instanceTypes": ["g6.xlarge"], "idleTimeout": int(_DAY_S)}


@dataclass(frozen=True)
class _Book:
    """The account's tables, written to as the agent and the key routes would."""

    session: boto3.Session
    url: str

    def write(self, table: Table, row: dict[str, object]) -> None:
        client = self.session.client("dynamodb", endpoint_url=self.url)
        client.put_item(TableName=table.full_name(_NAMESPACE), Item=to_attributes(row))

    def launch(self, account: Account) -> Member:
        client = self.session.client("autoscaling", endpoint_url=self.url)
        group = client.describe_auto_scaling_groups()["AutoScalingGroups"][0]["AutoScalingGroupName"]
        client.set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=1)
        (member,) = account.members()
        account.booted(member.id)
        return member


@contextmanager
def diogenes() -> Iterator[Recipe]:
    """The recipe, good while the account stands."""
    account = Account(Faults(None))
    with AccountServer(account) as server:
        session = boto3.Session(aws_access_key_id="bench", aws_secret_access_key="bench", region_name=REGION)
        apply(server.url, region=REGION, models=[_CONFIG], stack=_STACK)
        book = _Book(session, server.url)
        member = book.launch(account)
        key = KeyRow(hash_key(_KEY), OWNER, "bench", time.time(), _KEY[:SHOWN_CHARS])
        book.write(API_KEYS, asdict(key))
        # Before every start: an earlier one may have run so long ago that it was right to drain the node.
        yield _recipe(server.url, prepare=lambda: book.write(INSTANCES, _ready_node(member, time.time())))


def _recipe(aws_url: str, *, prepare: Callable[[], None]) -> Recipe:
    address = address_of("diogenes")
    environment = {
        "PYTHONPATH": str(_HOME),
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        # Nobody's real profile is read, let alone used.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "DIOGENES_NAMESPACE": _NAMESPACE,
        "DIOGENES_HOST": address.host,
        "DIOGENES_PORT": str(address.port),
    }
    command = [sys.executable, "-m", "control_plane", "serve"]
    return Recipe("diogenes", command, Target(address, key=_KEY, model=MODEL), environment, prepare=prepare)


def _ready_node(member: Member, now: float) -> dict[str, object]:
    return {
        "instance_id": member.id,
        "model": MODEL,
        "status": str(NodeState.READY),
        "group": member.group,
        "zone": member.zone,
        "instance_type": member.instance_type,
        "market": member.market,
        "launched_at": now,
        "ready_at": now,
        "heartbeat_at": now + _DAY_S,
        "lease_until": now + _DAY_S,
        "last_request_at": now,
        "ip": ENGINE.host,
    }
