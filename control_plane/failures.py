"""Why a model or a node does not go on, in words for whoever waits. What a launch is refused for is the launcher's."""

from __future__ import annotations

from control_plane.nodes import Node
from gpu_node.protocol import Failure

CRASH_LOOP = "engine_crash_loop"
NOT_STARTING = "control_plane_not_starting"
BY_HAND = "nothing is tried until its configuration changes, or somebody wakes it with POST /api/cluster/scale."
TAKEN_BACK = "AWS takes this Spot instance back"
OUTLIVED = "its lifetime ends soon, and another node serves"
REPLACED = "AWS may take this Spot instance back, and another node serves"
LOST = Failure("node_lost", "The GPU instance went away.", "Ask again: a new one is started.")
SILENT = Failure("node_silent", "The GPU node stopped reporting while it started.", "Ask again: a new one is started.")
ENGINE_LOST = Failure("engine_lost", "The engine stopped answering.", "Ask again: a new node is started.")


def not_configured(model: str) -> Failure:
    return Failure(
        "model_removed",
        f"{model} is no longer configured.",
        "Ask for one of those that GET /v1/models lists.",
        permanent=True,
    )


def never_spoke(age: float) -> Failure:
    return Failure(
        "node_never_spoke",
        f"The GPU instance was launched {age:.0f} s ago and its agent never reported.",
        "Look at its system log in the EC2 console; check that it can reach DynamoDB and its boot script.",
    )


def too_slow(node: Node, age: float) -> Failure:
    return Failure(
        "boot_too_slow",
        f"The start was given up after {age:.0f} s, in phase {node.phase.phase}.",
        "Choose an instance type with a faster network, or a smaller model.",
    )


def crash_loop(last: Failure, times: int) -> Failure:
    """The engine died soon after it got ready: as a start that failed, so that a second one in a row ends the tries."""
    often = "" if times == 1 else f" {times} times in a row"
    return Failure(
        CRASH_LOOP,
        f"The engine died within minutes of getting ready{often}, the last time so: {last.message}",
        "Ask less of the GPU in its vllmArgs (--gpu-memory-utilization, --max-num-seqs); see the engine's last lines.",
        cause=last.cause,
    )


def not_starting(age_s: float, ended: int, *, why: str, fix: str) -> Failure:
    """The control plane does not come up. ``ended``: of its tasks; ``why``: the last one's, or the service's words."""
    tasks = "one of its tasks" if ended == 1 else f"{ended} of its tasks"
    if ended:
        told = f"The control plane does not start: {tasks} ended within {age_s:.0f} s of the wake, the last one so: "
    else:
        told = f"The control plane did not get healthy within {age_s:.0f} s of the wake. "
        why = f"ECS says: {why}" if why else "ECS names no reason."
    return Failure(NOT_STARTING, told + why, fix)


def asleep_failure(model: str) -> Failure:
    return Failure("start_cancelled", f"The start of {model} was cancelled by hand.", "Ask again to start it.")
