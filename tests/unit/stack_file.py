"""A stack's configuration that obeys `pulumi config set` and `pulumi config rm`, as far as our advice uses them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any


class StackFile:
    """Values by name without the project's; items are written as Pulumi writes them."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = deepcopy(values)
        self.stack = "prod"
        self.region: str | None = "us-east-1"

    def obey(self, line: str) -> None:
        """Runs a line of commands. Raises ValueError for one we never give, KeyError for a path that is missing."""
        for command in line.split("  #")[0].split("&&"):
            match shlex.split(command):
                case ["pulumi", "stack", "rename", name]:
                    self.stack = name
                case ["pulumi", "config", "set", *words]:
                    self._obey_set(words)
                case ["pulumi", "config", "rm", "--path", path]:
                    *steps, last = _steps(path)
                    del self._at(steps)[last]
                case ["pulumi", "config", "rm", name] if re.fullmatch(r"\w+", name):
                    del self.values[name]
                case other:
                    raise ValueError(f"not a command that we give: {other}")

    def _obey_set(self, words: Sequence[str]) -> None:
        match words:
            case ["aws:region", region]:
                self.region = region
            case ["--secret", name]:
                self.values[name] = {"secure": "…"}
            case ["--path", path, *value]:
                self._set(_steps(path), _typed(_value(value)))
            case [name, *value] if re.fullmatch(r"\w+", name):
                self.values[name] = _value(value)  # at the top Pulumi keeps text
            case _:
                raise ValueError(f"not a setting that we give: {words}")

    def _at(self, steps: Sequence[str | int]) -> Any:
        place: Any = self.values
        for step in steps:
            place = place[step]
        return place

    def _set(self, steps: Sequence[str | int], value: object) -> None:
        place: Any = self.values
        for step, following in pairwise(steps):
            if isinstance(place, list) and step == len(place):
                place.append([] if isinstance(following, int) else {})
            elif isinstance(place, dict) and step not in place:
                place[str(step)] = [] if isinstance(following, int) else {}
            place = place[step]
        if isinstance(place, list) and steps[-1] == len(place):
            place.append(value)
        else:
            place[steps[-1]] = value


def _value(words: Sequence[str]) -> str:
    match words:
        case ["--", value]:
            return value
        case [value] if not value.startswith("-"):
            return value
    raise ValueError(f"Pulumi would not take {words} for a value")


def _typed(text: str) -> object:
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return text == "true" if text in ("true", "false") else text


def _steps(path: str) -> list[str | int]:
    return [int(number) if number else name for name, number in re.findall(r"([A-Za-z]\w*)|\[(\d+)\]", path)]
