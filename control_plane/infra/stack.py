"""The stack's configuration as the program finds it, and what a configuration that cannot be deployed looks like."""

from __future__ import annotations

import os

import pulumi
from pulumi.runtime.config import CONFIG

from control_plane.deployment import Deployment, InvalidDeployment
from control_plane.hub import geometry_reader

HF_TOKEN = "hfToken"  # noqa: S105 - the name of a setting


def deployment() -> Deployment:
    """The validated configuration of this stack. Raises RunError with all problems, before anything is registered."""
    project = pulumi.get_project()
    values = {
        name.removeprefix(f"{project}:"): value
        for name, value in CONFIG.get().items()
        if name.startswith(f"{project}:") and name != f"{project}:{HF_TOKEN}"
    }
    token = f"{project}:{HF_TOKEN}"
    try:
        return Deployment.parse(
            values,
            project=project,
            stack=pulumi.get_stack(),
            region=pulumi.Config("aws").get("region"),
            read_geometry=geometry_reader(os.environ),
            hf_token_in_clear=bool(CONFIG.get().get(token)) and not pulumi.runtime.is_config_secret(token),
        )
    except InvalidDeployment as error:
        lines = "\n".join(f"  - {problem}" for problem in error.problems)
        raise pulumi.RunError(f"The configuration of this stack cannot be deployed:\n{lines}") from None


def hf_token() -> pulumi.Output[str] | None:
    """The Hugging Face token, never in clear; None where it is not set, or empty: SSM keeps no empty parameter."""
    config = pulumi.Config()
    return config.get_secret(HF_TOKEN) if config.get(HF_TOKEN) else None
