"""A stack: the commands up, preview, refresh and destroy, over the state that they leave each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.provider.engine import Engine
from tests.provider.gaps import FAKED
from tests.provider.invented import Foreign
from tests.provider.plugin import Provider
from tests.provider.state import Kind, Operation, Outcome, Resource, live
from tests.provider.wire import ProviderError

Program = Callable[[Engine, bool], Mapping[str, Any]]
"""Runs a program to its end against the engine, in a preview or for real, and returns its exports."""

_PARALLEL = 16


class Stack:
    """One stack of one account. Not safe for threads; a command that fails leaves in the state what it made."""

    def __init__(self, provider: Provider, *, assets: Path, foreign: Foreign | None = None) -> None:
        self._provider = provider
        self._assets = assets
        self._foreign = foreign or Foreign()
        self.resources: Mapping[str, Resource] = {}  # by URN

    def up(self, program: Program, *, refresh: bool = False, obey_ignore_changes: bool = True) -> Outcome:
        """``obey_ignore_changes=False`` is the program without a single ignoreChanges. Raises ProviderError."""
        begun = time.monotonic()
        if refresh:
            self.refresh()
        engine = self._engine(obey_ignore_changes=obey_ignore_changes)
        try:
            exports = _run(program, engine, preview=False)
        finally:
            self.resources = {**self.resources, **engine.registered}
        gone = [each for urn, each in self.resources.items() if urn not in engine.registered]
        self._delete([*engine.leftovers, *gone], engine)
        self.resources = dict(engine.registered)
        return _outcome(engine, gone, exports=exports, begun=begun)

    def preview(self, program: Program, *, obey_ignore_changes: bool = True) -> Outcome:
        """What ``up`` would do; nothing changes. Raises ProviderError."""
        begun = time.monotonic()
        engine = self._engine(preview=True, obey_ignore_changes=obey_ignore_changes)
        exports = _run(program, engine, preview=True)
        gone = [each for urn, each in self.resources.items() if urn not in engine.registered]
        return _outcome(engine, gone, exports=exports, begun=begun)

    def refresh(self) -> None:
        """Take over what the account says now, into the state and into the inputs that were given last."""
        with ThreadPoolExecutor(_PARALLEL) as threads:
            seen = threads.map(self._seen, self.resources.values())
            self.resources = {each.urn: each for each in seen if each is not None}

    def destroy(self) -> Outcome:
        """Delete everything. Raises ProviderError; what could not be deleted stays in the state."""
        begun = time.monotonic()
        engine = self._engine()
        gone = list(self.resources.values())
        self._delete(gone, engine)
        return _outcome(engine, gone, exports={}, begun=begun)

    def state(self, label: str) -> Mapping[str, Any]:
        """What is known of the only resource with this label, in the provider's shape."""
        (found,) = [each for each in self.resources.values() if each.label == label]
        state: Mapping[str, Any] = found.applied.state
        return state

    def _engine(self, *, preview: bool = False, obey_ignore_changes: bool = True) -> Engine:
        return Engine(
            self._provider,
            self.resources,
            assets=self._assets,
            foreign=self._foreign,
            preview=preview,
            obey_ignore_changes=obey_ignore_changes,
        )

    def _seen(self, known: Resource) -> Resource | None:
        if known.type in FAKED:
            return known
        now = self._provider.read(known.type, known.applied)
        return None if now is None else replace(known, applied=now, config=live(known.config, now.state))

    def _delete(self, gone: Iterable[Resource], engine: Engine) -> None:
        """Each after everything that depends on it, and as many at once as that allows. What fails holds the others."""
        left = list(gone)
        running: dict[Future[None], Resource] = {}
        failed: list[BaseException] = []
        with ThreadPoolExecutor(_PARALLEL) as threads:
            while True:
                held = {urn for each in left for urn in each.dependencies}
                begun = [*running.values()]
                if not failed:
                    free = [each for each in left if each.urn not in held and each not in begun]
                    running |= {threads.submit(engine.delete, each): each for each in free}
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    each = running.pop(future)
                    if error := future.exception():
                        failed.append(error)
                    else:
                        left.remove(each)
                        self._forget(each)
        if failed:
            raise ProviderError("; ".join(str(error) for error in failed))

    def _forget(self, deleted: Resource) -> None:
        """Unless the same URN stands for its successor by now."""
        self.resources = {urn: each for urn, each in self.resources.items() if each is not deleted}


def _run(program: Program, engine: Engine, *, preview: bool) -> Mapping[str, Any]:
    try:
        return program(engine, preview)
    finally:
        engine.wait()
        if engine.errors:
            # The provider's own words, without the long way that they came through Pulumi.
            raise ProviderError("; ".join(str(error) for error in engine.errors)) from None


def _outcome(engine: Engine, gone: Iterable[Resource], *, exports: Mapping[str, Any], begun: float) -> Outcome:
    deleted = [Operation(each.label, Kind.DELETE, faked=each.type in FAKED) for each in gone]
    return Outcome(
        operations=(*engine.operations, *deleted),
        exports=exports,
        dropped=frozenset(engine.dropped),
        seconds=time.monotonic() - begun,
    )
