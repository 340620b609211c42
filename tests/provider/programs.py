"""What a stack runs: the project's own program under a configuration, or a few lines of a test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pulumi
from pulumi.runtime import mocks
from pulumi.runtime.stack import run_pulumi_func

from rehearsal import program
from rehearsal.program import StackConfig
from tests.provider.engine import Engine
from tests.provider.stack import Program

_LIMIT_S = 400.0  # a cold up is two or three minutes of the provider's own waiting


def whole(config: StackConfig) -> Program:
    """The unmodified ``__main__.py``. It asks nobody about the models' repositories."""

    def run(engine: Engine, preview: bool) -> Mapping[str, Any]:
        offline = {"HF_HUB_OFFLINE": "1"}
        return program.run(config, engine, preview=preview, environment=offline, timeout_s=_LIMIT_S)

    return run


def small(build: Callable[[], None]) -> Program:
    """A function that makes resources, as a program of its own. It exports nothing."""

    def run(engine: Engine, preview: bool) -> Mapping[str, Any]:
        raised: list[BaseException] = []

        def work() -> None:
            try:
                _run(build, engine, preview=preview)
            except BaseException as error:  # noqa: BLE001 - handed to the caller, below
                raised.append(error)

        # A thread of its own: Pulumi wants a loop that is its alone.
        thread = threading.Thread(target=work, name="small-program")
        thread.start()
        thread.join()
        if raised:
            raise raised[0]
        return {}

    return run


def _run(build: Callable[[], None], engine: Engine, *, preview: bool) -> None:
    with program.pulumi_loop() as loop:
        mocks.set_mocks(engine.mocks, project="diogenes", stack="small", preview=preview, monitor=engine)
        pulumi.runtime.set_all_config({})
        loop.run_until_complete(asyncio.wait_for(run_pulumi_func(build), _LIMIT_S))
