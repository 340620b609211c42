"""What GPU nodes are made of, as the stack's configuration says it. Pure."""

from __future__ import annotations

from typing import Any

from control_plane.configuration import Values, remove, set_value

NAMES = ("amiId", "bakeImage", "engine", "engineImage", "rootVolumeGb", "rootVolumeMibS")

ENGINES = ("install", "container")

ROOT_VOLUME_GB = 100

ROOT_VOLUME_MIB_S = 125
"""What a gp3 volume carries without a surcharge."""

MOST_MIB_S = 750
"""What a gp3 volume's 3,000 operations a second carry, which are in its price as well."""

_CONTAINER_IMAGE = r"[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"


def read(values: Values) -> dict[str, Any]:
    """Of a deployment: the members that are about its nodes."""
    engine = values.choice("engine", ENGINES, default=ENGINES[0])
    image = values.text("engineImage", pattern=_CONTAINER_IMAGE, example="vllm/vllm-openai:v0.32.0")
    bake = values.flag("bakeImage")
    if engine != "container" and values.is_set("engineImage"):
        values.refuse("engineImage is of no use unless engine is container", remove("engineImage"))
    if engine == "container" and bake:
        values.refuse("bakeImage bakes an installed engine, and engine is container", set_value("bakeImage", "false"))
    return {
        "engine": engine,
        "engine_image": image,
        "bake_image": bake,
        "ami_id": values.text("amiId", pattern=r"ami-([0-9a-f]{8}|[0-9a-f]{17})", example="ami-0123456789abcdef0"),
        "root_volume_gb": values.integer(
            "rootVolumeGb", range(75, 16385), default=ROOT_VOLUME_GB, unit="GB"
        ),  # the Deep Learning AMI alone takes 75
        "root_volume_mib_s": values.integer(
            "rootVolumeMibS", range(ROOT_VOLUME_MIB_S, MOST_MIB_S + 1), default=ROOT_VOLUME_MIB_S, unit="MiB/s"
        ),
    }
