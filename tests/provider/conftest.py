"""One provider and one emulated account for a module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.account import REGION, Account
from rehearsal.account_server import AccountServer
from rehearsal.faults import Faults
from tests.provider import executable
from tests.provider.plugin import Provider


def pytest_configure(config: pytest.Config) -> None:
    """Importing a module of the AWS provider's package warns of its old names. To use one is an error still."""
    config.addinivalue_line(
        "filterwarnings", r"ignore:aws\..* has been deprecated in favor of aws\.:DeprecationWarning"
    )


@pytest.fixture(scope="session")
def provider_executable() -> Path:
    found = executable.find()
    if found is None:
        pytest.skip(executable.MISSING)
    return found


@pytest.fixture(scope="module")
def account(provider_executable: Path) -> Iterator[AccountServer]:
    """An empty account."""
    with AccountServer(Account(Faults())) as server:
        yield server


@pytest.fixture(scope="module")
def provider(provider_executable: Path, account: AccountServer) -> Iterator[Provider]:
    with Provider(provider_executable, endpoint=account.url, region=REGION) as running:
        yield running
