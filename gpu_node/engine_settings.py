"""How a node comes by its engine and its weights: what ``provision`` is told, as variables ``DIOGENES_ENGINE_…``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gpu_node.weights import Source

PREFIX = "DIOGENES_ENGINE_"

VLLM_IMAGE = "vllm/vllm-openai:v0.32.0"
"""The makers' container image of the version that requirements-engine.txt installs."""


class InvalidEngineSettings(ValueError):
    """The environment cannot be used."""


class EngineKind(StrEnum):
    """How the engine comes onto the machine."""

    INSTALL = "install"  # its packages, from the lock; at once where the machine's image holds them already
    CONTAINER = "container"  # its makers' image


@dataclass(frozen=True)
class EngineSettings:
    """What a node is told besides ``NodeSettings``."""

    kind: EngineKind = EngineKind.INSTALL
    image: str = VLLM_IMAGE  # of the kind CONTAINER
    weights: Source = Source.HUB
    bucket: str = ""  # of mirror and compile cache; neither where there is none
    node: str = ""  # this machine, in claims
    region: str = ""  # AWS_REGION

    @classmethod
    def from_env(cls, environ: Mapping[str, str], *, node: str) -> EngineSettings:
        """Raises InvalidEngineSettings."""
        try:
            return cls(
                kind=EngineKind(environ.get(f"{PREFIX}KIND") or EngineKind.INSTALL),
                image=environ.get(f"{PREFIX}IMAGE") or VLLM_IMAGE,
                weights=Source(environ.get(f"{PREFIX}WEIGHTS") or Source.HUB),
                bucket=environ.get(f"{PREFIX}BUCKET", ""),
                node=node,
                region=environ.get("AWS_REGION", ""),
            )
        except ValueError as error:
            raise InvalidEngineSettings(str(error)) from error

    def to_env(self) -> dict[str, str]:
        """The variables that ``from_env`` reads back, without defaults, the region and the node."""
        default = EngineSettings()
        told = {"KIND": self.kind, "IMAGE": self.image, "WEIGHTS": self.weights, "BUCKET": self.bucket}
        known = {"KIND": default.kind, "IMAGE": default.image, "WEIGHTS": default.weights, "BUCKET": default.bucket}
        return {f"{PREFIX}{name}": str(value) for name, value in told.items() if value != known[name]}
