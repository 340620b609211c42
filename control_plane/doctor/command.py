"""The command ``doctor``: the outside opened, the findings printed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp

from control_plane.doctor.aws_account import open_account
from control_plane.doctor.diagnosis import Doctor
from control_plane.doctor.finding import Finding, as_json, as_text, exit_status, failure
from control_plane.doctor.ports import Outside
from control_plane.doctor.stack import NoStack, StackFile
from control_plane.doctor.web import HttpWeb
from control_plane.hub import Hub, Reading, geometry_reader


async def examine_stack(environ: Mapping[str, str], *, folder: Path, stack: str, as_list: bool) -> tuple[int, str]:
    """The exit status (1 with a failure, else 0) and what to print: lines, or with ``as_list`` a JSON list."""
    try:
        file = StackFile.read(folder, stack)
    except NoStack as error:
        findings = [failure("configuration", str(error), error.fix)]
    else:
        findings = await _diagnosis(environ, file)
    return exit_status(findings), as_json(findings) if as_list else as_text(findings)


async def _diagnosis(environ: Mapping[str, str], file: StackFile) -> list[Finding]:
    hub = Hub.from_env(environ)

    def ask_hub(repository: str, revision: str | None, token: str | None) -> Reading:
        return replace(hub, token=token).read(repository, revision)

    region = file.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    async with AsyncExitStack() as scope:
        session = await scope.enter_async_context(aiohttp.ClientSession())
        account = await scope.enter_async_context(open_account(file.namespace, region)) if region else None
        outside = Outside(HttpWeb(session), ask_hub, hub_token=hub.token, account=account)
        doctor = Doctor(file, outside, region=region, read_geometry=geometry_reader(environ), clock=time.time)
        return await doctor.diagnosis()
