"""A deployed account: what the project's own program makes of Pulumi.prod.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from control_plane.deployment import PLACEHOLDER_OWNER
from rehearsal import stack
from rehearsal.account import REGION
from rehearsal.account_server import AccountServer
from rehearsal.program import HOME
from tests.doctor.account import Examined

NAMESPACE = "diogenes-prod"


@dataclass(frozen=True)
class Deployed:
    account: Examined
    url: str
    folder: Path  # of the project, as its operator has it

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="rehearsal",
            aws_secret_access_key="rehearsal",
        )


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = checked_out(tmp_path_factory.mktemp("project"), "prod")
    account = Examined()
    with AccountServer(account) as server:
        stack.apply(server.url, region=REGION, stack="prod")
        yield Deployed(account, server.url, folder)


@pytest.fixture
def deployed(deployment: Deployed, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    """The SDK's variables point to it; nothing is denied and no quota is known."""
    account = deployment.account
    account.forbidden, account.quotas, account.defaults, account.expired = set(), {}, {}, False
    for name, value in variables(deployment).items():
        monkeypatch.setenv(name, value)
    return deployment


def checked_out(folder: Path, name: str) -> Path:
    """A folder with the project's own files of Pulumi: the published stack under this name, and with an owner."""
    published = (HOME / "Pulumi.prod.yaml").read_text()
    assert PLACEHOLDER_OWNER in published
    (folder / "Pulumi.yaml").write_text((HOME / "Pulumi.yaml").read_text())
    (folder / f"Pulumi.{name}.yaml").write_text(published.replace(PLACEHOLDER_OWNER, "me@example.com"))
    return folder


def variables(deployment: Deployed) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": deployment.url,
        "AWS_ACCESS_KEY_ID": "rehearsal",
        "AWS_SECRET_ACCESS_KEY": "rehearsal",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
