"""The Pulumi program, run here: the unmodified ``__main__.py`` of the project in this process, against a monitor of ours.

``run`` does what the Pulumi engine would: it hands the program its configuration and answers its registrations. What a
registration means is the monitor's business: the rehearsal makes the resource in its account, a test records it.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime import mocks, settings
from pulumi.runtime.stack import run_pulumi_func

HOME = Path(__file__).parents[1]
PROJECT = "diogenes"

_running = threading.Lock()  # Pulumi's runtime is one of module globals


@dataclass(frozen=True)
class StackConfig:
    """A stack's configuration, as the Pulumi command would hand it to the program."""

    stack: str
    values: Mapping[str, Any]  # by full name, such as "diogenes:models"; plain values
    secrets: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of_file(cls, path: Path, *, stack: str, **changes: Any) -> StackConfig:
        """The values of a ``Pulumi.<stack>.yaml`` with some changed: ``models=[…]``; None takes one away."""
        values: dict[str, Any] = dict(yaml.safe_load(path.read_text())["config"])
        values |= {f"{PROJECT}:{name}": value for name, value in changes.items()}
        return cls(stack, {name: value for name, value in values.items() if value is not None})

    def wire(self) -> dict[str, str]:
        """Every value as text, defaults of ``Pulumi.yaml`` included."""
        given = {**_defaults(), **self.values}
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}


def run(
    config: StackConfig,
    monitor: mocks.MockMonitor,
    *,
    preview: bool = False,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
) -> Mapping[str, Any]:
    """Run the program to its end and return its exports. Raises what the program, or the monitor, raised.

    The monitor must have been made with the Mocks that it asks. ``environment`` stands in ``os.environ`` meanwhile.
    """
    outcome: list[Mapping[str, Any] | BaseException] = []

    def work() -> None:
        try:
            outcome.append(_run(config, monitor, preview=preview, timeout_s=timeout_s))
        except BaseException as error:  # noqa: BLE001 - handed to the caller, below
            outcome.append(error)

    with _running, _environment(environment or {}):
        # A thread of its own: the caller may have a running loop, and Pulumi wants one that is its alone.
        thread = threading.Thread(target=work, name="pulumi-program")
        thread.start()
        thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _run(config: StackConfig, monitor: mocks.MockMonitor, *, preview: bool, timeout_s: float) -> Mapping[str, Any]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # before set_mocks, which registers the stack on the current loop
    path, here = list(sys.path), Path.cwd()
    try:
        mocks.set_mocks(monitor.mocks, project=PROJECT, stack=config.stack, preview=preview, monitor=monitor)
        pulumi.runtime.set_all_config(config.wire(), list(config.secrets))
        sys.path.insert(0, str(HOME))
        os.chdir(HOME)
        return loop.run_until_complete(asyncio.wait_for(_program(), timeout_s))
    finally:
        os.chdir(here)
        sys.path[:] = path
        asyncio.set_event_loop(None)
        loop.close()


async def _program() -> Mapping[str, Any]:
    await run_pulumi_func(lambda: runpy.run_path(str(HOME / "__main__.py"), run_name="__main__") and None)
    root = settings.get_root_resource()
    outputs = getattr(root, "outputs", None) or {}
    found: Mapping[str, Any] = await pulumi.Output.all(**outputs).future() or {}
    return found


def _defaults() -> Mapping[str, Any]:
    project = yaml.safe_load((HOME / "Pulumi.yaml").read_text())
    told: Mapping[str, Mapping[str, Any]] = project.get("config", {})
    return {
        name if ":" in name else f"{PROJECT}:{name}": setting.get("value", setting.get("default"))
        for name, setting in told.items()
        if "value" in setting or "default" in setting
    }


class _environment:
    """Variables that stand for a while."""

    def __init__(self, changes: Mapping[str, str]) -> None:
        self._changes = changes
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._changes}
        os.environ.update(self._changes)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
