"""What shall go wrong: a small vocabulary, from a YAML file or from a test. README.md shows every word.

A fault is used up ``times`` times and then over. The file is read again when it changes, counters start afresh then.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpu_node.protocol import NodeState, Phase
from rehearsal.engine_log import BOOT_FAILURES

ALWAYS = -1
"""``times`` of a fault that is never used up; ``times: always`` in the file."""

REFUSALS = ("capacity", "quota", "spot-capacity", "misconfigured")
VICTIMS = ("engine", "agent", "instance")
NOTICES = ("interruption", "rebalance")
PHASES = (*(str(phase) for phase in Phase), str(NodeState.READY))

_WORDS: Mapping[str, Sequence[str] | None] = {
    "refuse": REFUSALS,
    "kill": VICTIMS,
    "boot_failure": tuple(BOOT_FAILURES),
    "never_boots": ("true",),
    "spot": NOTICES,
    "throttle": None,  # any service:Operation
    "fail": None,
    "lose_reply": None,
}
_WHERE: Mapping[str, frozenset[str]] = {
    "refuse": frozenset({"model", "zone"}),
    "kill": frozenset({"model", "after_s", "phase"}),
    "boot_failure": frozenset({"model"}),
    "never_boots": frozenset({"model"}),
    "spot": frozenset({"model", "after_s", "phase", "notice_s"}),
}


class UnknownFault(ValueError):
    """A word that is not in the vocabulary; the message says which are."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. ``None`` stands for any model, any zone."""

    kind: str
    what: str
    model: str | None = None
    zone: str | None = None
    after_s: float = 0.0
    phase: str | None = None
    notice_s: float = 120.0  # from a Spot notice until the instance is taken back
    times: int = 1

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Fault:
        """One entry of the file. Raises UnknownFault."""
        kinds = [key for key in entry if key in _WORDS]
        if len(kinds) != 1:
            raise UnknownFault(f"{dict(entry)}: a fault has exactly one of {', '.join(_WORDS)}")
        kind = kinds[0]
        known = _WHERE.get(kind, frozenset()) | {kind, "times"}
        if unknown := sorted(set(entry) - known):
            raise UnknownFault(f"{kind}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return cls(
            kind=kind,
            what=_what(kind, entry[kind]),
            model=entry.get("model"),
            zone=entry.get("zone"),
            after_s=float(entry.get("after_s", 0.0)),
            phase=_phase(entry.get("phase")),
            notice_s=float(entry.get("notice_s", 120.0)),
            times=_times(entry.get("times", 1)),
        )

    def concerns(self, *, model: str | None, zone: str | None = None) -> bool:
        return self.model in (None, model) and self.zone in (None, zone)


class Faults:
    """The faults that are still to come. Safe to use from several threads."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._added: list[list[Any]] = []  # pairs of a fault and how often it is left
        self._from_file: list[list[Any]] = []
        self._stamp: tuple[int, int] | None = None

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._added.append([fault, fault.times])

    def refresh(self) -> bool:
        """Read the file again if it changed; True when it did. Raises UnknownFault, and keeps what was known then."""
        if self._path is None:
            return False
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        faults = parse(self._path.read_text())
        with self._lock:
            self._from_file = [[fault, fault.times] for fault in faults]
        return True

    def pending(self, kind: str) -> Sequence[Fault]:
        """All faults of the kind that are not used up."""
        with self._lock:
            return [fault for fault, left in self._all() if fault.kind == kind and left]

    def use(self, fault: Fault) -> bool:
        """Use it once. False when it was used up meanwhile."""
        with self._lock:
            for entry in self._all():
                if entry[0] is fault and entry[1]:
                    entry[1] -= 1 if entry[1] > 0 else 0
                    return True
        return False

    def _all(self) -> list[list[Any]]:
        return self._added + self._from_file


def parse(text: str) -> list[Fault]:
    """All faults of a file. Raises UnknownFault."""
    try:
        entries = yaml.safe_load(text) or []
    except yaml.YAMLError as error:
        raise UnknownFault(f"not YAML: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UnknownFault("the file must be a list of faults, each a mapping")
    return [Fault.parse(entry) for entry in entries]


def _what(kind: str, value: object) -> str:
    word = str(value).lower() if isinstance(value, bool) else str(value)
    words = _WORDS[kind]
    if words is not None and word not in words:
        raise UnknownFault(f"{kind}: {word}: unknown; known are {', '.join(words)}")
    if words is None and ":" not in word:
        raise UnknownFault(f"{kind}: {word}: write service:Operation, such as dynamodb:UpdateItem")
    return word


def _phase(value: object) -> str | None:
    if value is None or value in PHASES:
        return None if value is None else str(value)
    raise UnknownFault(f"phase: {value}: unknown; known are {', '.join(PHASES)}")


def _times(value: object) -> int:
    if value == "always":
        return ALWAYS
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise UnknownFault(f"times: {value}: write a whole number above zero, or always")
