"""Whatever here imports the AWS provider's package."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Importing a module of the package warns of its old names. To use one is an error still."""
    config.addinivalue_line("filterwarnings", r"ignore:[\w./]+ has been deprecated in favor of:DeprecationWarning")
