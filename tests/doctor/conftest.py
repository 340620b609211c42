"""A deployed account: what the project's own program makes of Pulumi.prod.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from rehearsal import stack
from rehearsal.account import REGION, AccountServer
from tests.doctor.account import Examined

NAMESPACE = "diogenes-prod"


@dataclass(frozen=True)
class Deployed:
    account: Examined
    url: str

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="rehearsal",
            aws_secret_access_key="rehearsal",
        )


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployed]:
    account = Examined()
    with AccountServer(account) as server:
        stack.apply(server.url, region=REGION, stack="prod")
        yield Deployed(account, server.url)


@pytest.fixture
def deployed(deployment: Deployed, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    """The SDK's variables point to it; nothing is denied and no quota is known."""
    account = deployment.account
    account.forbidden, account.quotas, account.defaults, account.expired = set(), {}, {}, False
    for name, value in variables(deployment).items():
        monkeypatch.setenv(name, value)
    return deployment


def variables(deployment: Deployed) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": deployment.url,
        "AWS_ACCESS_KEY_ID": "rehearsal",
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
