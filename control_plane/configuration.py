"""A stack's configuration value by value: each read in its type, or refused with the line that mends it. Pure.

Pulumi hands a program every value as text; a stack's file may hold it in its own type. Both are read alike.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and the command that mends it."""

    what: str
    mend: str

    @property
    def shifts(self) -> bool:
        """Whether the command moves the items that follow in a list, so that other commands would miss theirs."""
        return bool(re.search(r"config rm --path \S*\]'?$", self.mend))

    def __str__(self) -> str:
        return f"{self.what}\n    {self.mend}"


@dataclass(frozen=True)
class Blank:
    """A value that only the operator knows. A shell refuses the command until it is filled in: ``<`` is not quoted."""

    what: str

    def __str__(self) -> str:
        return f"<{self.what}>"


def set_value(name: str, value: object) -> str:
    """The command that sets one setting of the stack."""
    return f"pulumi config set {name} {_argument(value)}"


def set_path(path: str, value: object) -> str:
    """The command that sets a value inside of a setting, as in ``models[1].idleTimeout``."""
    return f"pulumi config set --path {shlex.quote(path)} {_argument(value)}"


def remove(path: str) -> str:
    """The command that takes a setting, or a value inside of one, away."""
    within = "--path " if re.search(r"[.\[]", path) else ""
    return f"pulumi config rm {within}{shlex.quote(path)}"


def _argument(value: object) -> str:
    if isinstance(value, Blank):
        return str(value)
    text = shlex.quote(str(value))
    # A value that begins like a flag would be taken for one.
    return f"-- {text}" if str(value).startswith("-") else text


def in_order(problems: Sequence[Problem]) -> Sequence[Problem]:
    """As their commands can be given one after the other: items of lists are removed last, from the back."""
    staying = [problem for problem in problems if not problem.shifts]
    return staying + [problem for problem in reversed(problems) if problem.shifts]


class Values:
    """Reads settings one by one and collects what is wrong with them; a wrong one reads as its default."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.problems: list[Problem] = []

    def refuse(self, what: str, mend: str) -> None:
        self.problems.append(Problem(what, mend))

    def is_set(self, name: str) -> bool:
        """Whether it has a value at all, sound or not."""
        return self._config.get(name) not in (None, "")

    def text(self, name: str, *, pattern: str, example: str) -> str | None:
        """None for what is missing, empty or refused."""
        value = self._config.get(name)
        if not self.is_set(name):
            return None
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        self.refuse(f"{name} is {value!r}, which does not look like {example}", set_value(name, example))
        return None

    def secret(self, name: str) -> str:
        """To be looked at: in no problem, and in no deployment."""
        value = self._config.get(name)
        return value if isinstance(value, str) else ""

    def choice(self, name: str, options: Sequence[str], *, default: str) -> str:
        value = self._config.get(name)
        if value is None:
            return default
        if value in options:
            return str(value)
        self.refuse(f"{name} is {value!r}, and must be one of {', '.join(options)}", set_value(name, default))
        return default

    def flag(self, name: str) -> bool:
        value = self._config.get(name, False)
        if value in (True, False, "true", "false"):
            return value in (True, "true")
        self.refuse(f"{name} is {value!r}, and must be true or false", set_value(name, "false"))
        return False

    def integer(self, name: str, allowed: range | Sequence[int], *, default: int, unit: str) -> int:
        value = self._config.get(name, default)
        number = int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value) else value
        if isinstance(number, int) and not isinstance(number, bool) and number in allowed:
            return number
        span = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else ", ".join(map(str, allowed))
        what = f"{name} is {value!r}, and must be a whole number of {unit}: {span}"
        self.refuse(what, set_value(name, default))
        return default

    def items(self, name: str, *, first: str, example: object) -> Sequence[Any]:
        """A list. ``first`` is the path in it, as in ``[0].name``, that could be set to ``example``."""
        value = self._config.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value or "[]")
            except ValueError:
                value = {}
        if value is None or isinstance(value, list | tuple):
            return value or []
        self.refuse(f"{name} is not a list", f"{remove(name)} && {set_path(name + first, example)}")
        return []
