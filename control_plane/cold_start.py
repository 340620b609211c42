"""How long a start takes and what its choice of engine and weights costs at rest: from documented rates. Pure.

An estimate until it is measured: each rate stands here with where it is from, and what nobody documents is marked as an
assumption. Seconds, gigabytes (10^9 bytes) and US dollars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from control_plane import node_settings
from control_plane.instance_types import instance_type
from control_plane.prices import prices
from control_plane.rates import gp3_usd_per_hour


@dataclass(frozen=True)
class Rate:
    """One number that the estimate stands on."""

    value: float
    unit: str
    what: str
    source: str


LOOKED_UP = "November 2026"
"""When the pages that rates are from were read."""

_SOCI = "[AWS](https://aws.amazon.com/blogs/containers/introducing-seekable-oci-parallel-pull-mode-for-amazon-eks)"
_RUNAI = "[Run:ai](https://github.com/run-ai/runai-model-streamer/blob/master/docs/src/benchmarks.md)"

BOOT = Rate(55.0, "s", "from the launch call to the agent's first word", "assumption; AWS names no time")
INSTALL_GB = Rate(5.0, "GB", "the engine's packages", "assumption; torch with CUDA's libraries is most of it")
UNPACK = Rate(0.1, "GB/s", "packages unpacked", "assumption")
IMAGE_GB = Rate(10.8, "GB", "vLLM's container image", f"{_SOCI}, on pulling it in parallel")
PULL = Rate(
    10.8 / 112, "GB/s", "an image pulled and unpacked without SOCI", f"{_SOCI}: 112 s for that image, large instance"
)
BAKED_GB = Rate(4.0, "GB", "what vLLM reads of its packages as it starts", "assumption")
VOLUME = Rate(
    0.21,
    "GB/s",
    "a new volume filled from its snapshot, 200 MiB/s as set",
    "[AWS](https://docs.aws.amazon.com/ebs/latest/userguide/initalize-volume.html), volume initialization rate",
)
CARRIED = Rate(
    node_settings.ROOT_VOLUME_MIB_S * 2**20 / 1e9,
    "GB/s",
    "what a node's root volume carries, 125 MiB/s unless set",
    "[AWS](https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html), gp3 without a surcharge",
)
HUB = Rate(0.25, "GB/s", "Hugging Face to one machine", "assumption; it names no rate")
DISK = Rate(15 / 47.5, "GB/s", "weights from a disk by vLLM's default loader, a GPU", f"{_RUNAI}: 15 GB in 47 to 48 s")
STREAM = Rate(15 / 4.88, "GB/s", "weights from S3 by its streamer", f"{_RUNAI}: 15 GB in 4.88 s on a g5.12xlarge")
ENGINE = Rate(18.0, "s", "vLLM without loading and compiling", f"{_RUNAI}: 23 s to ready, 4.88 s of it loading")
COMPILE = Rate(60.0, "s", "compiling at a first start", "published reports: about a minute")
CACHED = Rate(5.0, "s", "the same with the compile cache", "published reports: a few seconds")

RATES: Sequence[Rate] = (
    *(BOOT, INSTALL_GB, UNPACK, IMAGE_GB, PULL, BAKED_GB, VOLUME, CARRIED, HUB, DISK, STREAM, ENGINE, COMPILE, CACHED),
)

NETWORK_GBPS: Mapping[str, float] = {"g5.xlarge": 2.5, "g6e.xlarge": 2.5, "g5.12xlarge": 40.0}
"""What AWS guarantees a type, Gbit/s; small ones may go above for some minutes."""

QUICK_MIB_S = 200
"""As fast as the volume is filled: more would be waited for in vain."""

BAKED_SNAPSHOT_GB = 50.0
"""Of an image of ours: what AWS's own image uses of its volume, and the engine. An assumption."""


class Engine(StrEnum):
    """How the engine comes onto a node."""

    INSTALL = "packages at boot"
    CONTAINER = "container image"
    BAKED = "baked AMI"


class Weights(StrEnum):
    """How the weights do."""

    HUB = "hub"
    S3 = "s3, mirrored"


@dataclass(frozen=True)
class Example:
    """A model that somebody may have."""

    name: str
    gb: float  # of its weights
    instance: str


EXAMPLES = (
    Example("8B, BF16", 16.1, "g5.xlarge"),
    Example("32B, AWQ", 19.3, "g6e.xlarge"),
    Example("70B, AWQ", 39.9, "g5.12xlarge"),
)


def seconds(
    example: Example,
    engine: Engine,
    weights: Weights,
    *,
    first: bool = False,
    volume_mib_s: int = node_settings.ROOT_VOLUME_MIB_S,
) -> float:
    """From the launch call until the engine answers. ``first``: nothing is compiled or mirrored yet; ``volume_mib_s``:
    what the root volume carries, of which only a baked engine is read."""
    if first and weights is Weights.S3:
        weights = Weights.HUB
    compiling = COMPILE if first else CACHED
    brought = _brought(example, engine, weights, volume=volume_mib_s * 2**20 / 1e9)
    return BOOT.value + brought + _loaded(example, weights) + ENGINE.value + compiling.value


def at_rest_usd(example: Example, engine: Engine, weights: Weights) -> float:
    """US dollars a month, besides what every deployment costs."""
    asked = prices().services
    image = BAKED_SNAPSHOT_GB * asked.ebs_snapshot_usd_per_gb_month if engine is Engine.BAKED else 0.0
    mirror = example.gb * asked.s3_usd_per_gb_month if weights is Weights.S3 else 0.0
    return image + mirror


def markdown() -> str:
    """The table of the README."""
    columns = [f"{each.name}, `{each.instance}`" for each in EXAMPLES]
    rows = [_row(engine, weights) for engine in Engine for weights in Weights]
    return "\n".join(
        [
            "**Estimate, not measured.** Minutes from the launch call until the engine answers, at a start that is not",
            "the first; in brackets the first one, when nothing is compiled or mirrored yet. Then $ a month at rest,",
            "for the three models in their order; an image is shared by all models.",
            "",
            f"| engine | weights | {' | '.join(columns)} | $ a month |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            *_second_stream(),
            "",
            *_quicker_volume(),
            "",
            f"| it stands on | | from (read in {LOOKED_UP}) |",
            "|---|---|---|",
            *(f"| {each.what} | {each.value:.3g} {each.unit} | {each.source} |" for each in RATES),
            *(
                f"| network of a `{name}` | {gbps:g} Gbit/s | AWS's list of types, without bursts |"
                for name, gbps in NETWORK_GBPS.items()
            ),
        ]
    )


def _second_stream() -> Sequence[str]:
    again_s = COMPILE.value - CACHED.value
    return (
        "With `weights: s3` the figure holds from the third start. The second is the first one to stream, and where",
        "the weights lie is part of what vLLM compiles for: it compiles once more, and takes",
        f"{again_s:.0f} s longer than the table says.",
    )


def _brought(example: Example, engine: Engine, weights: Weights, *, volume: float) -> float:
    """Engine and weights, which come at the same time and share the network. ``volume`` in GB/s."""
    network = NETWORK_GBPS[example.instance] / 8
    fetched = example.gb if weights is Weights.HUB else 0.0
    match engine:
        case Engine.INSTALL:
            engine_gb, alone = INSTALL_GB.value, INSTALL_GB.value / network + INSTALL_GB.value / UNPACK.value
        case Engine.CONTAINER:
            engine_gb, alone = IMAGE_GB.value, IMAGE_GB.value / min(network, PULL.value)
        case Engine.BAKED:
            engine_gb, alone = 0.0, BAKED_GB.value / min(VOLUME.value, volume)
    return max(alone, fetched / min(network, HUB.value), (engine_gb + fetched) / network)


def _loaded(example: Example, weights: Weights) -> float:
    if weights is Weights.S3:
        return example.gb / min(STREAM.value, NETWORK_GBPS[example.instance] / 8)
    return example.gb / (DISK.value * instance_type(example.instance).gpus)


def _quicker_volume() -> Sequence[str]:
    """What a root volume that carries more is good for, and what it costs."""
    example, usual, quick = EXAMPLES[0], node_settings.ROOT_VOLUME_MIB_S, QUICK_MIB_S
    times = [seconds(example, Engine.BAKED, Weights.S3, volume_mib_s=carried) for carried in (usual, quick)]
    size = node_settings.ROOT_VOLUME_GB
    more = gp3_usd_per_hour(size, quick) - gp3_usd_per_hour(size, usual)
    saved, cents = times[0] - times[1], 100 * more
    return [
        f"With a root volume that carries {quick} MiB/s (`rootVolumeMibS`) instead of {usual}, a baked engine is there",
        f"{saved:.0f} s sooner, where nothing else is waited for, at {cents:.2f} cents an hour of a node; still more",
        "would be in vain, since AWS fills the volume no faster. The other two have their engine on NVMe.",
    ]


def _row(engine: Engine, weights: Weights) -> str:
    def minutes(example: Example, *, first: bool) -> str:
        return f"{seconds(example, engine, weights, first=first) / 60:.1f}"

    times = [f"{minutes(each, first=False)} ({minutes(each, first=True)})" for each in EXAMPLES]
    costs = " / ".join(f"{at_rest_usd(each, engine, weights):.2f}" for each in EXAMPLES)
    return f"| {engine} | {weights} | {' | '.join(times)} | {costs} |"
