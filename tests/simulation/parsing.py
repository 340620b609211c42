"""A model's configuration is checked once, and not by every process of every schedule."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from control_plane.model import Model

_checked: dict[str, Model] = {}
_parse = vars(Model)["parse"]


@contextlib.contextmanager
def checked_once() -> Iterator[None]:
    """What is checked in here is remembered."""
    Model.parse = _parsed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Model.parse = _parse  # type: ignore[method-assign]


def _parsed(config: Mapping[str, Any], override: Mapping[str, Any] | None = None) -> Model:
    key = f"{config} {override}"
    if key not in _checked:
        _checked[key] = _parse.__func__(Model, config, override)
    return _checked[key]
