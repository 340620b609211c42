"""A configuration that somebody thinks about: can it be used, does it fit its machines, what would it cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import TypedDict

from control_plane.boots import Boot, alike, percentile, weights_of
from control_plane.budget import start_cost
from control_plane.fit import EngineArguments, InvalidArguments, Verdict
from control_plane.geometry import Geometry, Unread
from control_plane.instance_types import cheapest, fits, known
from control_plane.model import InvalidModel, Model
from control_plane.prices import InstanceType
from control_plane.quotas import console, quota_of
from control_plane.rates import MICRO, Sizes, node_rate


class ProblemEntry(TypedDict):
    """What is wrong with one key of the configuration."""

    key: str  # as in idleTimeout or instanceTypes[1]
    message: str


class QuotaEntry(TypedDict):
    """What AWS must allow for as many machines as the model may have."""

    market: str
    code: str | None  # null: it has one, of which we do not know the code
    name: str | None
    vcpus: int
    url: str  # where it is raised


class MachineEntry(TypedDict):
    """One instance type of the model: whether it fits, and what it costs."""

    instance_type: str
    answer: Literal["yes", "maybe", "no", "unknown"]
    reason: str
    flag: str | None  # the argument of vLLM that is to blame
    kv_cache_tokens: int | None  # for how many tokens there is room beside the weights
    context_tokens: int | None  # of the longest request
    gpu: str | None
    gpus: int | None
    usd_per_h: float | None  # On-Demand, with volume and address; null: not in the price file
    usual_start_s: float | None  # by the starts that were seen on this type
    quotas: list[QuotaEntry]


class Candidate(TypedDict):
    """The cheapest type that surely fits."""

    instance_type: str
    usd_per_h: float
    tensor_parallel: int


class Assessment(TypedDict):
    """Without a problem, there is an entry for each machine."""

    problems: list[ProblemEntry]
    machines: list[MachineEntry]
    cheapest: Candidate | None
    start_usd: float | None  # of a start that is asked one short question and idles out; null: not of a known price
    market: str
    prices_of: str  # the price file's day


@dataclass(frozen=True)
class Ground:
    """What a judgement rests on, besides the configuration."""

    shape: Geometry | Unread
    sizes: Sizes
    boots: Sequence[Boot]  # the starts of this model that were seen
    prices_of: str


def draft(model: Model, changed: Mapping[str, Any]) -> Model:
    """The model with these keys of its configuration instead; null is what Pulumi has. Raises InvalidModel."""
    override = {**model.override, **changed}
    return Model.parse(model.config, {key: value for key, value in override.items() if value is not None})


def refuse(error: InvalidModel, *, market: str, prices_of: str) -> Assessment:
    """Of a configuration that cannot even be read."""
    problems: list[ProblemEntry] = [{"key": fault.key, "message": fault.told} for fault in error.faults]
    return _assessment(problems, market=market, prices_of=prices_of)


def assess(model: Model, ground: Ground) -> Assessment:
    """Every machine of the model, in the order in which they are tried."""
    market, prices_of = str(model.market), ground.prices_of
    try:
        arguments = EngineArguments.parse(model.vllm_args)
    except InvalidArguments as error:
        problem: ProblemEntry = {"key": "vllmArgs", "message": str(error)}
        return _assessment([problem], market=market, prices_of=prices_of)
    told = _assessment([], market=market, prices_of=prices_of)
    told["machines"] = [_machine(name, model, arguments, ground) for name in model.instance_types]
    told["cheapest"] = _cheapest(arguments, ground)
    told["start_usd"] = _start_usd(model, ground)
    return told


def _assessment(problems: list[ProblemEntry], *, market: str, prices_of: str) -> Assessment:
    return {
        "problems": problems,
        "machines": [],
        "cheapest": None,
        "start_usd": None,
        "market": market,
        "prices_of": prices_of,
    }


def _machine(name: str, model: Model, arguments: EngineArguments, ground: Ground) -> MachineEntry:
    kind = known().get(name)
    entry: MachineEntry = {
        "instance_type": name,
        "answer": "unknown",
        "reason": _unknown(kind, ground.shape),
        "flag": None,
        "kv_cache_tokens": None,
        "context_tokens": None,
        "gpu": kind.gpu.name if kind else None,
        "gpus": kind.gpus if kind else None,
        "usd_per_h": _usd_per_h(name, ground.sizes) if kind else None,
        "usual_start_s": _usual_start_s(model, name, ground.boots),
        "quotas": [_quota(market, name, kind.vcpus * model.max_instances) for market in model.market.ladder]
        if kind
        else [],
    }
    if kind and not isinstance(ground.shape, Unread):
        _judge(entry, fits(ground.shape, arguments, name=name))
    return entry


def _judge(entry: MachineEntry, verdict: Verdict) -> None:
    entry["answer"] = verdict.answer.value
    entry["reason"] = verdict.reason
    entry["flag"] = verdict.flag
    entry["kv_cache_tokens"] = verdict.max_tokens
    entry["context_tokens"] = verdict.context


def _unknown(kind: InstanceType | None, shape: Geometry | Unread) -> str:
    if kind is None:
        return "neither its GPUs nor its price are known here"
    return shape.reason if isinstance(shape, Unread) else ""


def _usd_per_h(name: str, sizes: Sizes) -> float:
    return node_rate(name, sizes).per_hour / MICRO


def _start_usd(model: Model, ground: Ground) -> float | None:
    """A budget takes a type of unknown price for the dearest; who asks what it costs is not told that."""
    if not set(model.instance_types) <= set(known()):
        return None
    usual_s = _usual_start_s(model, model.instance_types[0], ground.boots)
    return start_cost(model, usual_s, ground.sizes) / MICRO


def _usual_start_s(model: Model, name: str, boots: Sequence[Boot]) -> float | None:
    """Half of the starts like it were not slower; only those on this very type count."""
    seen = alike(boots, weights=weights_of(model), instance_type=name)
    times = [boot.seconds for boot in seen if boot.instance_type == name]
    return percentile(times, 0.5) if times else None


def _quota(market: str, name: str, vcpus: int) -> QuotaEntry:
    quota = quota_of(name, market)
    return {
        "market": market,
        "code": quota.code if quota else None,
        "name": quota.name if quota else None,
        "vcpus": vcpus,
        "url": console(quota, ""),
    }


def _cheapest(arguments: EngineArguments, ground: Ground) -> Candidate | None:
    if isinstance(ground.shape, Unread):
        return None
    best = cheapest(ground.shape, arguments)
    if best is None:
        return None
    name = best.instance_type.name
    return {
        "instance_type": name,
        "usd_per_h": _usd_per_h(name, ground.sizes),
        "tensor_parallel": best.tensor_parallel,
    }
