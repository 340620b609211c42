"""Will a model fit the GPUs of an instance type? Arithmetic only, per GPU, in GiB. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """What of a model's shape decides how much memory it takes."""
