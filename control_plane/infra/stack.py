"""The stack's configuration as the program finds it, and what a configuration that cannot be deployed looks like."""

from __future__ import annotations

import os

import pulumi
from pulumi.runtime.config import CONFIG

from control_plane.deployment import SECRETS, Deployment, InvalidDeployment
from control_plane.hub import geometry_reader
from control_plane.notification_settings import WEBHOOK
from control_plane.telemetry_settings import HEADERS

HF_TOKEN = "hfToken"  # noqa: S105 - the name of a setting
GITHUB_SECRET = "githubClientSecret"  # noqa: S105 - the same


def deployment() -> Deployment:
    """The validated configuration of this stack. Raises RunError with all problems, before anything is registered."""
    project = pulumi.get_project()
    given = {name.removeprefix(f"{project}:"): value for name, value in CONFIG.get().items() if _ours(name, project)}
    secrets = {name for name in SECRETS if given.get(name)}
    try:
        return Deployment.parse(
            given,
            project=project,
            stack=pulumi.get_stack(),
            region=pulumi.Config("aws").get("region"),
            read_geometry=geometry_reader(os.environ),
            in_clear=sorted(name for name in secrets if not pulumi.runtime.is_config_secret(f"{project}:{name}")),
            github_secret=GITHUB_SECRET in secrets,
        )
    except InvalidDeployment as error:
        lines = "\n".join(f"  - {problem}" for problem in error.problems)
        raise pulumi.RunError(f"The configuration of this stack cannot be deployed:\n{lines}") from None


def _ours(name: str, project: str) -> bool:
    return name.startswith(f"{project}:")


def github_secret() -> pulumi.Output[str] | None:
    """The secret of the OAuth app at GitHub, never in clear; None where it is not set."""
    config = pulumi.Config()
    return config.get_secret(GITHUB_SECRET) if config.get(GITHUB_SECRET) else None


def webhook() -> pulumi.Output[str] | None:
    """Where notices go as JSON, never in clear; None where it is not set."""
    config = pulumi.Config()
    return config.get_secret(WEBHOOK) if config.get(WEBHOOK) else None


def traces_headers() -> pulumi.Output[str] | None:
    """What the endpoint of traces wants to be told, never in clear; None where it is not set."""
    config = pulumi.Config()
    return config.get_secret(HEADERS) if config.get(HEADERS) else None


def hf_token() -> pulumi.Output[str] | None:
    """The Hugging Face token, never in clear; None where it is not set, or empty: SSM keeps no empty parameter."""
    config = pulumi.Config()
    return config.get_secret(HF_TOKEN) if config.get(HF_TOKEN) else None
