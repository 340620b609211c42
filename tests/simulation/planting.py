"""A bug is planted as a change of a module's source before it is imported."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType


@dataclass(frozen=True)
class Change:
    """``old`` stands exactly once in the module's source."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """``expected`` names the invariants of which one catches it; ``also`` what would make up for it."""

    name: str
    module: str
    old: str
    new: str
    expected: Sequence[str]
    also: Sequence[Change] = ()

    @property
    def changes(self) -> Sequence[Change]:
        return (Change(self.module, self.old, self.new), *self.also)


class _Loader(SourceFileLoader):
    planted: Mutant

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        for change in self.planted.changes:
            if change.module == fullname:
                if source.count(change.old) != 1:
                    raise AssertionError(f"{self.planted.name}: its place in {fullname} is gone, or not the only one")
                source = source.replace(change.old, change.new)
        return compile(source, self.path, "exec")


class _Finder(MetaPathFinder):
    def __init__(self, planted: Mutant) -> None:
        self._planted = planted
        self._modules = {change.module for change in planted.changes}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._modules:
            return None
        found = PathFinder.find_spec(fullname, path)
        assert found
        assert found.origin
        loader = _Loader(fullname, found.origin)
        loader.planted = self._planted
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def plant(planted: Mutant) -> None:
    """From here on its modules are imported with the bug. They must not be imported yet."""
    for change in planted.changes:
        if change.module in sys.modules:
            raise AssertionError(f"{change.module} is imported already")
    sys.meta_path.insert(0, _Finder(planted))
