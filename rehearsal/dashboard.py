"""Moto's dashboard, which a desk does without: for it, moto keeps every instance of every model that it ever made.

A row is such an instance, and each answer is made of copies of rows; a transaction copies its whole tables first. So
the memory of a desk that is left alone would grow with the square of what its tables hold, by gigabytes in an hour.
"""

from __future__ import annotations

from moto.core.common_models import BaseModel
from moto.core.model_instances import reset_model_data


def close() -> None:
    """From now on what nothing else in moto keeps is gone. Twice is once."""
    BaseModel.__new__ = _untracked  # type: ignore[method-assign]
    reset_model_data()


def _untracked(cls: type[BaseModel], *_: object, **__: object) -> BaseModel:
    return super(BaseModel, cls).__new__(cls)
