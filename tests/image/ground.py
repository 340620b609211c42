"""An emulated account that the project's program was applied to, where containers reach it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rehearsal import stack
from rehearsal.account import REGION, Account
from rehearsal.account_server import AccountServer
from rehearsal.faults import Faults
from rehearsal.stack import Stack

_FUNCTION = "aws:lambda/function:Function"


@dataclass(frozen=True)
class Ground:
    """What AWS gives to containers: each its environment, and the credentials of its own role."""

    account: Account
    url: str
    stack: Stack

    def task(self) -> Mapping[str, str]:
        return self._given(self.stack.task_environment(), self.stack.task_role, "ecs-tasks.amazonaws.com")

    def function(self, handler: str) -> Mapping[str, str]:
        """Of the function with this handler."""
        [told] = [state for state in self.stack.made[_FUNCTION] if state["imageConfig"]["commands"] == [handler]]
        variables = {**told["environment"]["variables"], "AWS_DEFAULT_REGION": REGION}  # which Lambda adds
        return self._given(variables, told["role"], "lambda.amazonaws.com")

    def _given(self, variables: Mapping[str, str], role: str, service: str) -> Mapping[str, str]:
        credentials = self.account.assume(role, service=service, session="image").environment()
        return {**variables, **credentials, "AWS_ENDPOINT_URL": self.url, "DIOGENES_STOP_TIMEOUT_S": "5"}


@contextmanager
def ground_at(host: str) -> Iterator[Ground]:
    account = Account(Faults())
    with AccountServer(account, host=host) as server:
        yield Ground(account, server.url, stack.apply(server.url, region=REGION))


def bridge_of(client: Any) -> str:
    """This machine's address, as containers of a docker client see it."""
    told = client.networks.get("bridge").attrs["IPAM"]["Config"][0]
    return str(told.get("Gateway") or ipaddress.ip_network(told["Subnet"])[1])
