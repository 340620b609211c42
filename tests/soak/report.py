"""What desks saw, each of its own and all together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Report:
    """As it goes from a desk's process to its parent, a line of JSON at a time."""

    rounds: int = 0
    cycles: int = 0
    asked: int = 0
    launched: int = 0
    slowest_s: float = 0.0  # answer
    phases: Counter[str] = field(default_factory=Counter)  # how many questions came in each
    replies: Counter[str] = field(
        default_factory=Counter
    )  # by status, with those that clients dealt with by themselves
    memory_mb: tuple[int, int] = (0, 0)  # of the desk's process, after its first round and now
    flaws: list[str] = field(default_factory=list)

    def line(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def parse(cls, line: str | bytes) -> Report:
        told = json.loads(line)
        counted = {name: Counter(told[name]) for name in ("phases", "replies")}
        return cls(**{**told, **counted, "memory_mb": tuple(told["memory_mb"])})


def together(reports: Iterable[Report]) -> Report:
    """Memory is that of the largest."""
    whole = Report()
    for report in reports:
        whole.rounds += report.rounds
        whole.cycles += report.cycles
        whole.asked += report.asked
        whole.launched += report.launched
        whole.slowest_s = max(whole.slowest_s, report.slowest_s)
        whole.phases += report.phases
        whole.replies += report.replies
        whole.memory_mb = max(whole.memory_mb, report.memory_mb, key=lambda megabytes: megabytes[1])
        whole.flaws += report.flaws
    return whole


def told(report: Report, *, minutes: float) -> str:
    """For people."""
    lines = [
        f"{report.cycles} cycles in {report.rounds} rounds, {report.launched} nodes, in {minutes:.1f} min",
        f"questions: {report.asked} ({_counted(report.phases)}); the slowest answer took {report.slowest_s:.1f} s",
        f"replies on the way: {_counted(report.replies)}",
        f"memory of the largest desk: {report.memory_mb[0]} MB after a round, {report.memory_mb[1]} MB at the end",
        f"flaws: {len(report.flaws)}",
        *(f"  {flaw}" for flaw in report.flaws),
    ]
    return "\n".join(lines) + "\n"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
