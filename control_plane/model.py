"""The models an operator configured: ``diogenes:models`` of the Pulumi stack, and what the UI changed since. Pure."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeGuard

from control_plane import warm_hours
from control_plane.geometry import geometry_problems
from control_plane.warm_hours import WarmHours

DEFAULT_IDLE_TIMEOUT_S = 300
MAX_IDLE_TIMEOUT_S = 24 * 3600
DEFAULT_MAX_LIFETIME_S = 24 * 3600
MIN_MAX_LIFETIME_S = 3600  # a shorter one would be spent on starting and draining
MAX_MAX_LIFETIME_S = 7 * 24 * 3600
MAX_INSTANCES = 8  # of one model; below schema.GROUP_MAX_SIZE
MAX_VLLM_ARGS_CHARS = 4096

OVERRIDABLE = frozenset({"idleTimeout", "vllmArgs", "maxInstances", "warmHours"})
"""What the UI may change while deployed; everything about hardware is Pulumi's."""

CONFIG_KEYS = OVERRIDABLE | {
    "name",
    "repository",
    "revision",
    "instanceTypes",
    "market",
    "geometry",
    "weights",
    "maxLifetime",
}

WEIGHTS = ("hub", "s3")
"""Where a model's weights come from: from the hub at every start, or from the bucket once they are mirrored there."""

MAX_SLUG_CHARS = 32  # an IAM role's name has 64 to give, of which the namespace takes 24
_DIGEST_CHARS = 6

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")

# As the hub and git have them: neither leads out of a path, nor begins like a flag.
_REPOSITORY_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"({_REPOSITORY_PART}/)?{_REPOSITORY_PART}")
_NOT_IN_REPOSITORY = re.compile(r"--|\.\.|\.git$")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,254}")
_NOT_IN_REVISION = re.compile(r"\.\.|//|/\.|[./]$|\.lock(/|$)")

_INSTANCE_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")

# Flags that Diogenes itself sets; a second one would take the engine off its address or its name.
_RESERVED_FLAGS = frozenset({"--host", "--port", "--served-model-name", "--api-key", "--uds", "--root-path"})


class Market(StrEnum):
    """How instances are bought, in the order in which they are tried."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"
    SPOT_THEN_ON_DEMAND = "spot-then-on-demand"

    @property
    def ladder(self) -> Sequence[str]:
        """The single markets, first choice first."""
        return ("spot", "on-demand") if self is Market.SPOT_THEN_ON_DEMAND else (str(self),)


class Fault(NamedTuple):
    """One thing that is wrong with a model's configuration."""

    key: str  # of the configuration, as in `idleTimeout` or `instanceTypes[1]`
    told: str
    surplus: bool = False  # taking the key away mends it


class InvalidModel(ValueError):
    """A model's configuration cannot be used; ``problems`` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[str], faults: Sequence[Fault] = ()) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)
        self.faults = list(faults)


@dataclass(frozen=True)
class Model:
    """One model as it shall run now: Pulumi's configuration with the UI's overrides on top."""

    name: str
    repository: str
    instance_types: Sequence[str]
    revision: str | None = None
    vllm_args: Sequence[str] = ()
    idle_timeout_s: float = DEFAULT_IDLE_TIMEOUT_S
    market: Market = Market.ON_DEMAND
    max_instances: int = 1
    max_lifetime_s: float = DEFAULT_MAX_LIFETIME_S  # of a node, whatever happens
    weights: str = "hub"
    warm_hours: Sequence[WarmHours] = ()  # kept awake then, and started for it
    config: Mapping[str, Any] = field(default_factory=dict)
    override: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, config: Mapping[str, Any], override: Mapping[str, Any] | None = None) -> Model:
        """A model from its configuration. Raises InvalidModel with every problem found."""
        merged = {**config, **(override or {})}
        faults = _faults(merged)
        if faults:
            name = merged.get("name")
            raise InvalidModel([f"{name}: {fault.told}" if name else fault.told for fault in faults], faults)
        return cls(
            name=merged["name"],
            repository=merged.get("repository") or merged["name"],
            revision=merged.get("revision") or None,
            instance_types=tuple(merged["instanceTypes"]),
            vllm_args=tuple(shlex.split(merged.get("vllmArgs", ""))),
            idle_timeout_s=merged.get("idleTimeout", DEFAULT_IDLE_TIMEOUT_S),
            market=Market(merged.get("market", Market.ON_DEMAND)),
            max_instances=merged.get("maxInstances", 1),
            max_lifetime_s=merged.get("maxLifetime", DEFAULT_MAX_LIFETIME_S),
            weights=merged.get("weights", "hub"),
            warm_hours=warm_hours.parse(merged.get("warmHours", ())),
            config=dict(config),
            override=dict(override or {}),
        )

    def warm_since(self, now: float) -> float | None:
        """When the warm hours began that are going on now, Unix seconds; None outside of them."""
        return max((begin for hours in self.warm_hours if (begin := hours.since(now)) is not None), default=None)

    def warm_until(self, now: float) -> float | None:
        """When the last of the warm hours that are going on now end, Unix seconds; None outside of them."""
        return max((end for hours in self.warm_hours if (end := hours.until(now)) is not None), default=None)


def parse_catalog(configs: Sequence[Mapping[str, Any]]) -> list[Model]:
    """All models of a stack. Raises InvalidModel with the problems of all of them at once."""
    models: list[Model] = []
    problems: list[str] = []
    for config in configs:
        try:
            models.append(Model.parse(config))
        except InvalidModel as error:
            problems.extend(error.problems)
    names = [model.name for model in models]
    problems.extend(f"{name}: configured twice" for name in sorted({n for n in names if names.count(n) > 1}))
    if problems:
        raise InvalidModel(problems)
    return models


def check_override(model: Model, override: Mapping[str, Any]) -> Model:
    """The model with this override instead of the one it has. Raises InvalidModel."""
    foreign = sorted(set(override) - OVERRIDABLE)
    if foreign:
        raise InvalidModel([f"{key} cannot be changed here, only with `pulumi config set --path`" for key in foreign])
    return Model.parse(model.config, override)


def slug(name: str) -> str:
    """A model's name as part of an AWS resource's name: at most MAX_SLUG_CHARS of a-z, 0-9 and -."""
    whole = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if len(whole) <= MAX_SLUG_CHARS:
        return whole
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{whole[: MAX_SLUG_CHARS - _DIGEST_CHARS - 1].rstrip('-')}-{digest}"


def reserved_flags(words: Sequence[str]) -> Sequence[str]:
    """Those of an engine's arguments that Diogenes itself sets."""
    return sorted({word.split("=")[0] for word in words} & _RESERVED_FLAGS)


def _faults(config: Mapping[str, Any]) -> Sequence[Fault]:
    checks = (
        _check_keys,
        _check_name,
        _check_repository,
        _check_revision,
        _check_instance_types,
        _check_market,
        _check_weights,
        _check_numbers,
        _check_vllm_args,
        _check_geometry,
        _check_warm_hours,
    )
    return [fault for check in checks for fault in check(config)]


def _check_keys(config: Mapping[str, Any]) -> Sequence[Fault]:
    return [Fault(key, f"unknown setting {key!r}", surplus=True) for key in sorted(set(config) - CONFIG_KEYS)]


def _check_name(config: Mapping[str, Any]) -> Sequence[Fault]:
    name = config.get("name")
    return [] if _is_name(name) else [Fault("name", f"name {name!r} is not a model name")]


def _is_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _is_repository(text: str) -> bool:
    return _REPOSITORY.fullmatch(text) is not None and not _NOT_IN_REPOSITORY.search(text)


def _check_repository(config: Mapping[str, Any]) -> Sequence[Fault]:
    repository = config.get("repository", "")
    if not isinstance(repository, str):
        return [Fault("repository", "repository must be text")]
    if repository:
        wrong, told = not _is_repository(repository), f"repository {repository!r}"
    else:
        name = config.get("name")  # one that is wrong itself is told by itself
        wrong, told = _is_name(name) and not _is_repository(name), f"repository is not set, and the name {name!r}"
    return [Fault("repository", f"{told} is no repository of the hub, as in owner/name")] if wrong else []


def _check_revision(config: Mapping[str, Any]) -> Sequence[Fault]:
    revision = config.get("revision", "")
    if not isinstance(revision, str):
        return [Fault("revision", "revision must be text")]
    good = not revision or (_REVISION.fullmatch(revision) and not _NOT_IN_REVISION.search(revision))
    return [] if good else [Fault("revision", f"revision {revision!r} is no git revision")]


def _check_instance_types(config: Mapping[str, Any]) -> Sequence[Fault]:
    types = config.get("instanceTypes")
    if not isinstance(types, list | tuple) or not types:
        return [Fault("instanceTypes", "instanceTypes must list at least one EC2 instance type, best first")]
    return [fault for place, kind in enumerate(types) for fault in _check_type(kind, place, types[:place])]


def _check_type(kind: object, place: int, before: Sequence[object]) -> Sequence[Fault]:
    key = f"instanceTypes[{place}]"
    if not isinstance(kind, str) or not _INSTANCE_TYPE.fullmatch(kind):
        return [Fault(key, f"{kind!r} is not an EC2 instance type")]
    return [Fault(key, f"instanceTypes names {kind} twice", surplus=True)] if kind in before else []


def _check_market(config: Mapping[str, Any]) -> Sequence[Fault]:
    market = config.get("market", "on-demand")
    words = [str(member) for member in Market]
    return [] if market in words else [Fault("market", f"market {market!r} must be one of {', '.join(words)}")]


def _check_weights(config: Mapping[str, Any]) -> Sequence[Fault]:
    weights = config.get("weights", "hub")
    return [] if weights in WEIGHTS else [Fault("weights", f"weights {weights!r} must be one of {', '.join(WEIGHTS)}")]


def _check_numbers(config: Mapping[str, Any]) -> Sequence[Fault]:
    faults = []
    limits = (
        ("idleTimeout", 1, MAX_IDLE_TIMEOUT_S),
        ("maxInstances", 1, MAX_INSTANCES),
        ("maxLifetime", MIN_MAX_LIFETIME_S, MAX_MAX_LIFETIME_S),
    )
    for key, low, high in limits:
        value = config.get(key, low)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            faults.append(Fault(key, f"{key} must be a whole number from {low} to {high}"))
    return faults


def _check_vllm_args(config: Mapping[str, Any]) -> Sequence[Fault]:
    text = config.get("vllmArgs", "")
    if not isinstance(text, str) or len(text) > MAX_VLLM_ARGS_CHARS:
        return [Fault("vllmArgs", f"vllmArgs must be text of at most {MAX_VLLM_ARGS_CHARS} characters")]
    try:
        words = shlex.split(text)
    except ValueError as error:
        return [Fault("vllmArgs", f"vllmArgs cannot be split into words: {error}")]
    return [Fault("vllmArgs", f"vllmArgs must not set {flag}: Diogenes sets it") for flag in reserved_flags(words)]


def _check_geometry(config: Mapping[str, Any]) -> Sequence[Fault]:
    if "geometry" not in config:
        return []
    return [Fault("geometry", told) for told in geometry_problems(config["geometry"])]


def _check_warm_hours(config: Mapping[str, Any]) -> Sequence[Fault]:
    return [Fault("warmHours", told) for told in warm_hours.problems(config.get("warmHours", ()))]
