"""What AWS said to the launches of a model: kept for a while, and told as one failure with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from control_plane.errors import LaunchMisconfigured, LaunchRefused, NoCapacity, QuotaExceeded
from control_plane.instance_types import UnknownInstanceType, instance_type
from control_plane.model import Model
from control_plane.ports import Clock, Group
from control_plane.quotas import console, quota_of
from gpu_node.protocol import Failure

CONSOLE_PATH = "Service Quotas > AWS services > Amazon EC2"


class Rung(NamedTuple):
    """One place to launch in: a group, which is one market, and one of its zones."""

    group: Group
    zone: str

    def __str__(self) -> str:
        return f"{self.group.market} in {self.zone}"


@dataclass(frozen=True)
class Refusal:
    """A rung that did not work."""

    rung: Rung
    error: LaunchRefused | None  # None: AWS did not answer in time
    remembered: bool = False  # it said so a while ago, and was not asked again
    asked: bool = True  # False: for want of time

    def __str__(self) -> str:
        if not self.asked:
            return f"{self.rung}: not asked in time"
        told = self.error.code if self.error else "no answer"
        return f"{self.rung}: {told}{', a while ago' if self.remembered else ''}"


class RefusalMemory:
    """Which rungs refused lately. In memory of one process: it saves calls and seconds, nothing depends on it."""

    def __init__(self, *, clock: Clock, keep_s: float) -> None:
        self._clock = clock
        self._keep_s = keep_s
        self._kept: dict[tuple[str, str | None], tuple[LaunchRefused, float]] = {}

    def note(self, group: str, zone: str, error: LaunchRefused) -> None:
        """What no other zone can help is kept for all zones of the group."""
        self._kept[group, None if ends_group(error) else zone] = (error, self._clock() + self._keep_s)

    def lately(self, rung: Rung) -> LaunchRefused | None:
        """What it said, if that is not too long ago."""
        for key in ((rung.group.name, None), (rung.group.name, rung.zone)):
            error, until = self._kept.get(key, (None, 0.0))
            if error and self._clock() < until:
                return error
        return None


def ends_group(error: LaunchRefused | None) -> bool:
    """Is it of no use to ask another zone of the same group?"""
    return isinstance(error, QuotaExceeded | LaunchMisconfigured)


def explain(model: Model, refusals: Sequence[Refusal]) -> Failure:
    """Why no rung worked, with everything that was tried.

    Where one only lacked capacity, trying again can help, and the failure is passing; so it is where AWS was silent.
    """
    if not refusals:
        told = f"There is no Auto Scaling group for {model.name} on market {model.market}."
        return Failure("no_group", told, "Run `pulumi up`.", permanent=True)
    if any(isinstance(refusal.error, NoCapacity) for refusal in refusals):
        return _no_capacity(model, refusals)
    if any(refusal.error is None for refusal in refusals):
        return _unanswered(model, refusals)
    if _of(QuotaExceeded, refusals):
        return _quota(model, refusals)
    return Failure(
        "launch_misconfigured",
        f"AWS refused to launch {_kinds(model)}: {_first_words(refusals)} {_tried(refusals)}",
        "Run `pulumi up`; `diogenes doctor` checks the account.",
        permanent=True,
    )


def _no_capacity(model: Model, refusals: Sequence[Refusal]) -> Failure:
    fix = "Try again in a few minutes, add instance types or allow spot for this model with `pulumi config set`."
    if short := _of(QuotaExceeded, refusals):
        fix += f" Besides: {_raise(model, short)}"
    return Failure("no_gpu_capacity", f"AWS has no {_kinds(model)} to give now {_tried(refusals)}", fix)


def _unanswered(model: Model, refusals: Sequence[Refusal]) -> Failure:
    return Failure(
        "launch_unanswered",
        f"AWS did not say in time whether it has a {_kinds(model)} {_tried(refusals)}",
        "Ask again in a minute or two. What is launched late all the same is taken down.",
    )


def _quota(model: Model, refusals: Sequence[Refusal]) -> Failure:
    short = _of(QuotaExceeded, refusals)
    markets = " and ".join(dict.fromkeys(refusal.rung.group.market for refusal in short))
    sizes = " or ".join(map(_sized, model.instance_types))
    wrong = _of(LaunchMisconfigured, refusals)
    fix = _raise(model, short) + (f" The other market is misconfigured ({_first_words(wrong)})" if wrong else "")
    return Failure(
        "gpu_quota_exceeded",
        f"The account's vCPU quota for {markets} instances is too small for {sizes}: "
        f"{_first_words(short)} {_tried(refusals)}",
        fix,
        permanent=True,
    )


def _raise(model: Model, short: Sequence[Refusal]) -> str:
    """Which quotas to raise, to what at least, and where."""
    told: dict[str, None] = {}  # each once, in their order
    for rung in (refusal.rung for refusal in short):
        for kind in model.instance_types:
            quota = quota_of(kind, rung.group.market)
            name = f"{quota.code} ({quota.name})" if quota else f"for {kind} on market {rung.group.market}"
            told[f"{name}: {console(quota, rung.zone)}"] = None
    return f"Request an increase of quota {' or '.join(told)}, in the console under {CONSOLE_PATH}."


def _tried(refusals: Sequence[Refusal]) -> str:
    return f"(tried {'; '.join(map(str, refusals))})."


def _kinds(model: Model) -> str:
    return " or ".join(model.instance_types)


def _sized(name: str) -> str:
    try:
        return f"{name} ({instance_type(name).vcpus} vCPU)"
    except UnknownInstanceType:
        return name


def _of(kind: type[LaunchRefused], refusals: Sequence[Refusal]) -> list[Refusal]:
    return [refusal for refusal in refusals if isinstance(refusal.error, kind)]


def _first_words(refusals: Sequence[Refusal]) -> str:
    """AWS's own, as a sentence."""
    words = next((refusal.error.message or refusal.error.code for refusal in refusals if refusal.error), "")
    return words if words.endswith(".") else f"{words}."
