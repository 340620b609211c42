"""What the stack tells whoever deployed it: texts, ready to paste. Pure."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from control_plane.deployment import Deployment
from control_plane.settings import PREFIX

VERSION: str = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"]


def site_config(sign_ins: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the web app reads at its start, and all the world may: nothing of it is secret."""
    return {
        "apiBase": "",
        "providers": [{"id": each["id"], "name": each["name"]} for each in sign_ins],
        "version": VERSION,
    }


def first_key(deployment: Deployment) -> str:
    """The command that makes an API key with AWS credentials, before anybody can sign in."""
    email = shlex.quote(deployment.allowed_emails[0])
    return (
        f"AWS_DEFAULT_REGION={deployment.region} {PREFIX}NAMESPACE={deployment.namespace} "
        f".venv/bin/python -m control_plane key create --email {email} --name first"
    )


def snippet(deployment: Deployment, api_base_url: str) -> str:
    """A question to the first model; the key is expected where OpenAI's own clients look for it."""
    question = {
        "model": deployment.models[0].name,
        "stream": True,
        "messages": [{"role": "user", "content": "Hello! Who are you?"}],
    }
    return (
        # Redirects are followed: a sleeping control plane answers with one to itself.
        f'curl -NL {api_base_url}/chat/completions -H "Authorization: Bearer $OPENAI_API_KEY" '
        f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(question))}"
    )
