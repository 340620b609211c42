"""What the program writes for a node is what the agent reads."""

from __future__ import annotations

import pytest

from gpu_node.settings import NodeSettings

NEEDED = NodeSettings(model="org/tiny", instances_table="i", models_table="m", group="g")


@pytest.mark.parametrize(
    "settings",
    [
        NEEDED,
        NodeSettings("org/tiny", "i", "m", "g", engine="/opt/engine --verbose", driver_check=False),
        NodeSettings("org/tiny", "i", "m", "g", heartbeat_s=0.25, boot_limit_s=3600.0),
    ],
)
def test_settings_survive_the_way_through_the_environment(settings: NodeSettings) -> None:
    assert NodeSettings.from_env(settings.to_env()) == settings


def test_only_what_differs_is_written() -> None:
    assert NEEDED.to_env() == {
        "DIOGENES_NODE_MODEL": "org/tiny",
        "DIOGENES_NODE_INSTANCES_TABLE": "i",
        "DIOGENES_NODE_MODELS_TABLE": "m",
        "DIOGENES_NODE_GROUP": "g",
    }
