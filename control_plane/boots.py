"""How starts went, and what that says of the one that goes on. Pure.

A start is compared with those most like it: of the same weights on the same instance type, and the first of them apart,
which finds nothing that one before it left behind (mirrored weights, compiled kernels).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from typing_extensions import TypedDict

from control_plane.model import Model
from control_plane.nodes import Node
from gpu_node.protocol import Phase, PhaseRecord

_ORDER = list(Phase)


@dataclass(frozen=True)
class Boot:
    """One start that came to its good end. Seconds."""

    seconds: float  # from launch to ready
    instance_type: str = ""
    weights: str = ""  # repository and revision
    first: bool = False  # of these weights on this type
    phases: Mapping[str, float] = field(default_factory=dict)  # how long each took


class EtaEntry(TypedDict):
    """Seconds."""

    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class Eta:
    """What is left of a start: half of those like it were done in ``low`` from here, nine of ten in ``high``."""

    low: float
    high: float
    samples: int

    def to_dict(self) -> EtaEntry:
        return {"low": round(self.low, 1), "high": round(self.high, 1), "samples": self.samples}


def weights_of(model: Model) -> str:
    return f"{model.repository}@{model.revision or 'main'}"


def road(node: Node) -> Sequence[PhaseRecord]:
    """Its phases. The first began at the launch, of which the agent knows nothing."""
    first = PhaseRecord(Phase.INSTANCE, node.launched_at)
    return (first, *(record for record in node.phases if record.phase is not Phase.INSTANCE))


def boot_of(node: Node, model: Model, history: Sequence[Boot]) -> Boot:
    """The start of a node that got ready, to be remembered after ``history``."""
    records = road(node)
    ends = [*(record.started_at for record in records[1:]), node.ready_at]
    taken = {
        str(record.phase): round(max(0.0, end - record.started_at), 1)
        for record, end in zip(records, ends, strict=True)
    }
    weights = weights_of(model)
    return Boot(
        seconds=round(node.ready_at - node.launched_at, 1),
        instance_type=node.instance_type,
        weights=weights,
        first=not any((boot.weights, boot.instance_type) == (weights, node.instance_type) for boot in history),
        phases=taken,
    )


def alike(history: Sequence[Boot], *, weights: str, instance_type: str) -> Sequence[Boot]:
    """Those of the history that say most of a start of these weights on this type: the same there, and no first one;
    else the first one there; else those elsewhere; of other weights, nothing."""
    same = [boot for boot in history if boot.weights == weights]
    here = [boot for boot in same if boot.instance_type == instance_type]
    kinds: Sequence[Callable[[], Sequence[Boot]]] = (
        lambda: [boot for boot in here if not boot.first],
        lambda: here,
        lambda: [boot for boot in same if boot.first],
    )
    return next((found for kind in kinds if (found := kind())), same)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def usual(boots: Sequence[Boot], phase: Phase) -> tuple[float, float] | None:
    """Median and 90th percentile of a phase, in seconds; None where none of them went through it."""
    times = [boot.phases[phase] for boot in boots if phase in boot.phases]
    return (percentile(times, 0.5), percentile(times, 0.9)) if times else None


def eta(boots: Sequence[Boot], records: Sequence[PhaseRecord], now: float) -> Eta | None:
    """What is left of a start that has come so far, by ``boots``; None without any.

    ``records`` are empty before the cloud has granted an instance. Where the phase tells bytes, what is left of it is
    taken from its own pace, and only what comes after it from the past.
    """
    if not boots:
        return None
    left = [_left(boot, records, now) for boot in boots]
    return Eta(percentile(left, 0.5), percentile(left, 0.9), len(boots))


def _left(boot: Boot, records: Sequence[PhaseRecord], now: float) -> float:
    if not records:
        return boot.seconds
    current = records[-1]
    place = _ORDER.index(current.phase)
    after_s = sum(seconds for phase, seconds in boot.phases.items() if _ORDER.index(Phase(phase)) > place)
    pace_s = _by_pace(current, now)
    if pace_s is not None:
        return pace_s + after_s
    in_phase_s = now - current.started_at
    # What a phase took too long is not taken from those that come after it.
    return max(0.0, boot.phases.get(current.phase, 0.0) - in_phase_s) + after_s


def _by_pace(record: PhaseRecord, now: float) -> float | None:
    """What is left of the phase if its bytes go on coming as they came."""
    if not record.total_bytes or not record.done_bytes:
        return None
    taken_s = max(0.0, now - record.started_at)
    return taken_s * max(0, record.total_bytes - record.done_bytes) / record.done_bytes
