"""The EC2 instance types that we know: their GPUs, their price, and which is the cheapest that a model fits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from control_plane.fit import Answer, EngineArguments, Verdict, check
from control_plane.geometry import Geometry
from control_plane.prices import InstanceType, prices


class UnknownInstanceType(ValueError):
    """We know neither the GPUs nor the price of this type; ``known`` lists those of which we do."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"{name} is not an instance type that we know; known are {', '.join(known)}")
        self.name = name
        self.known = known


@dataclass(frozen=True)
class Candidate:
    """An instance type that a model fits, and the tensor parallelism with which it does."""

    instance_type: InstanceType
    tensor_parallel: int


def known() -> Mapping[str, InstanceType]:
    """Every type that we know, by name."""
    return prices().instance_types


def instance_type(name: str) -> InstanceType:
    """Raises UnknownInstanceType."""
    try:
        return known()[name]
    except KeyError:
        raise UnknownInstanceType(name, tuple(known())) from None


def fits(geometry: Geometry, arguments: EngineArguments, *, name: str) -> Verdict:
    """Whether a model with these arguments fits this type. Raises UnknownInstanceType."""
    kind = instance_type(name)
    return check(geometry, arguments, gpu=kind.gpu, gpus=kind.gpus)


def cheapest(geometry: Geometry, arguments: EngineArguments, *, spread: bool = True) -> Candidate | None:
    """The cheapest type that the model surely fits; None where there is none.

    With ``spread`` a tensor parallelism over all of a type's GPUs is tried besides the arguments' own.
    """
    return min(_candidates(geometry, arguments, spread=spread), key=_price, default=None)


def _candidates(geometry: Geometry, arguments: EngineArguments, *, spread: bool) -> Iterator[Candidate]:
    for kind in known().values():
        own = arguments.tensor_parallel
        for parallel in dict.fromkeys((own, kind.gpus if spread else own)):
            tried = replace(arguments, tensor_parallel=parallel)
            if check(geometry, tried, gpu=kind.gpu, gpus=kind.gpus).answer is Answer.YES:
                yield Candidate(kind, parallel)


def _price(candidate: Candidate) -> float:
    return candidate.instance_type.usd_per_hour
