"""The Pulumi program, run here: the project's unmodified ``__main__.py`` in this process, against a monitor of ours.

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
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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

    with _running, _environment(environment or {}), warnings.catch_warnings():
        # A module of the AWS provider's package warns of its old names when it is imported, whoever uses them.
        old = r"[\w./]+ has been deprecated in favor of"
        warnings.filterwarnings("ignore", message=old, category=DeprecationWarning)
        # A thread of its own: the caller may have a running loop, and Pulumi wants one that is its alone.
        thread = threading.Thread(target=work, name="pulumi-program")
        thread.start()
        thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


@contextmanager
def pulumi_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop for one run of Pulumi, set before anything is registered. Its worker threads' loops are closed with it."""
    opened: list[asyncio.AbstractEventLoop] = []

    def open_loop() -> None:
        opened.append(asyncio.new_event_loop())
        asyncio.set_event_loop(opened[-1])

    open_loop()
    opened[0].set_exception_handler(_only_unexpected)
    settings.SETTINGS.outputs.clear()  # under mocks all runs share it; one that failed leaves tasks of its dead loop
    try:
        # Pulumi wants a loop in every thread that answers it, and closes none that it had to make itself.
        with ThreadPoolExecutor(initializer=open_loop) as workers:
            opened[0].set_default_executor(workers)
            try:
                yield opened[0]
            finally:
                opened[0].run_until_complete(_end_tasks())
    finally:
        asyncio.set_event_loop(None)
        for loop in opened:
            loop.close()


def _only_unexpected(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error is raised once; what waited for the resource that has it, and so has it too, need not say it again."""
    if "never retrieved" not in context["message"]:
        loop.default_exception_handler(context)


async def _end_tasks() -> None:
    """Of a run that failed, so that none is left pending when its loop is closed."""
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _run(config: StackConfig, monitor: mocks.MockMonitor, *, preview: bool, timeout_s: float) -> Mapping[str, Any]:
    path, here = list(sys.path), Path.cwd()
    with pulumi_loop() as loop:
        try:
            mocks.set_mocks(monitor.mocks, project=PROJECT, stack=config.stack, preview=preview, monitor=monitor)
            pulumi.runtime.set_all_config(config.wire(), list(config.secrets))
            sys.path.insert(0, str(HOME))
            os.chdir(HOME)
            return loop.run_until_complete(asyncio.wait_for(_program(), timeout_s))
        finally:
            os.chdir(here)
            sys.path[:] = path


async def _program() -> Mapping[str, Any]:
    def program() -> None:
        runpy.run_path(str(HOME / "__main__.py"), run_name="__main__")

    await run_pulumi_func(program)
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
