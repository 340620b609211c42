"""Ctrl-C and SIGTERM, which mean the same here."""

from __future__ import annotations

import signal
from typing import NoReturn

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def interruptible() -> None:
    """The first of them is a KeyboardInterrupt; what comes after it would end what ends."""
    for number in _NUMBERS:
        signal.signal(number, _interrupted)


def _interrupted(_number: int, _frame: object) -> NoReturn:
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
