"""The calls that can go wrong, by whose they are, and the ways in which they do (see ``reach``)."""

from __future__ import annotations

WRITES = {
    "task": (
        "fence.take",
        "fence.hold",
        "fence.release",
        "launches.intend",
        "launches.settle",
        "cloud.launch",
        "cloud.terminate",
        "cloud.release",
        "nodes.add",
        "nodes.claim",
        "nodes.move",
        "nodes.renew",
        "wishes.ask",
        "wishes.drop",
        "models.failed",
        "models.started",
        "front.move",
        "stage.want",
        "stage.face",
    ),
    "night": (
        "fence.take_over",
        "fence.hold",
        "fence.release",
        "launches.intend",
        "launches.settle",
        "cloud.launch",
        "nodes.add",
        "wishes.ask",
        "models.failed",
        "front.claim",
        "front.move",
        "stage.want",
        "stage.face",
    ),
    "janitor": (
        "fence.take_over",
        "fence.hold",
        "fence.release",
        "launches.intend",
        "cloud.launch",
        "cloud.terminate",
        "nodes.move",
        "nodes.add",
        "front.move",
        "stage.want",
        "stage.face",
    ),
}
READS = ("nodes.list", "wishes.list", "launches.list", "models.list", "cloud.groups", "front.read", "stage.look")
WAYS = ("refused", "lost", "late", "twice", "slow", "crash-before", "crash-after")
