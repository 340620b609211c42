"""``python -m tests.gpu_node.emulator PORT``: an emulated AWS, with the one call of the agent that it lacks."""

from __future__ import annotations

import sys

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.server import main


def nothing_waits(response: AutoScalingResponse) -> None:
    """What AWS says where no instance is held back by a hook; and here none ever is."""
    raise ValidationError(f"No active Lifecycle Action found with instance ID {response._get_param('InstanceId')}")


if __name__ == "__main__":
    AutoScalingResponse.complete_lifecycle_action = nothing_waits  # type: ignore[attr-defined]
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])
