"""OpenAI's stock client for Node, as a story asks with it: a process that always comes to an end."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.clients.npm import package_missing
from tests.desk.story import BOUND_S, Answer

HOME = Path(__file__).with_name("node")
PACKAGE = "openai"


class NodeCrashed(Exception):
    """The client ended without telling what became of its question, or did not end at all."""


def node_missing() -> str:
    """Why the client cannot run here; empty where it can."""
    return package_missing(HOME, PACKAGE)


async def ask_node(
    base_url: str,
    api_key: str,
    model: str,
    prompt: str = "Hello",
    *,
    stream: bool = False,
    limit_s: float = BOUND_S,
) -> Answer:
    """What the stock client makes of it, with default settings. A streamed answer does not tell its node."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HOME / "ask.mjs"),
        *(["--stream"] if stream else []),
        "--",  # a prompt may begin with a dash
        model,
        prompt,
        env=_environment(base_url, api_key),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ended = asyncio.ensure_future(process.communicate())
    in_time = False
    try:
        in_time = bool((await asyncio.wait({ended}, timeout=limit_s))[0])
    finally:  # of a story that was cancelled, too
        if process.returncode is None:
            process.kill()
        told, complaint = await ended
    if not in_time:
        raise NodeCrashed(f"no end within {limit_s:g} s, so it was killed. {_said(complaint)}")
    if process.returncode:
        raise NodeCrashed(f"exit status {process.returncode}. {_said(complaint)}")
    try:
        answer: dict[str, Any] = json.loads(told)
        return Answer(**answer)
    except (ValueError, TypeError) as error:
        raise NodeCrashed(f"it told no answer: {told!r}. {_said(complaint)}") from error


def _environment(base_url: str, api_key: str) -> Mapping[str, str]:
    # Whoever runs the tests may have an organization, a project or a log level of their own set for the client.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return {
        **kept,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": api_key,
    }


def _said(complaint: bytes) -> str:
    return f"On stderr: {complaint.decode(errors='replace').strip() or 'nothing'}"
