"""What the starts of a model came to: what counts as a failed one, and what is remembered of one that succeeded. Pure.

An engine that dies within minutes of getting ready has not really started: the next one would do the same, each on a
GPU of its own. So that counts too, and a start that only got ready does not take it back: only one that lives longer.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.actions import CountFailure, NoteStart
from control_plane.boots import boot_of
from control_plane.failures import CRASH_LOOP, crash_loop
from control_plane.model import Model
from control_plane.nodes import UNASKED, Cause, Node
from control_plane.policy import MAX_BACKOFF_S
from control_plane.ports import Group, Instance, Launch, ModelRow
from gpu_node.protocol import NodeState

FAILURE_STREAK_S = 4 * MAX_BACKOFF_S  # failures further apart than this are not in a row
SOON_S = 300.0  # an engine that dies within this of getting ready may be in a loop
_DEATHS = frozenset(
    {
        "engine_crashed",
        "engine_hung",
        "engine_lost",
        "out_of_gpu_memory",
        "host_out_of_memory",
        "cuda_error",
        "gpu_fault",
        "disk_full",
    }
)


def uncounted(node: Node, history: ModelRow | None) -> bool:
    """Its start failed, and the history does not say so yet."""
    if node.state is not NodeState.FAILED or node.error is None or history is None:
        return False
    return node.id not in history.counted and (not node.ready_at or _died_soon(node))


def count(node: Node, history: ModelRow, now: float) -> CountFailure | None:
    """The failure to be remembered; None when there is none, or it is remembered already."""
    if node.error is None or not uncounted(node, history):
        return None
    in_a_row = history.failures + 1 if now < history.failed_at + FAILURE_STREAK_S else 1
    failure = crash_loop(node.error, in_a_row) if node.ready_at else node.error
    return CountFailure(node.model, node.id, failure, in_a_row, tuple(node.log_tail))


def note(node: Node, model: Model, history: ModelRow) -> NoteStart:
    """The start of a node that got ready."""
    looping = history.failure is not None and history.failure.code == CRASH_LOOP
    return NoteStart(node.model, boot_of(node, model, history.boots), forgives=not looping)


def outlasts(node: Node, history: ModelRow) -> bool:
    """Has it, ready since the last failure, served for longer than one that counts as failed?"""
    return history.failure is not None and node.ready_at > history.failed_at and _served_s(node) >= SOON_S


def _served_s(node: Node) -> float:
    return node.heartbeat_at - node.ready_at


def _died_soon(node: Node) -> bool:
    assert node.error is not None
    return node.error.code in _DEATHS and _served_s(node) < SOON_S


def may_be_of(launch: Launch, node: Node) -> bool:
    """Was it launched there, and has nobody but its own agent written to its row? That knows of no price."""
    there = (node.model, node.group, node.zone) == (launch.model, launch.group, launch.zone)
    return there and not node.micro_usd_per_hour and node.launched_at > launch.at


def whose(instance: Instance, group: Group, launches: Sequence[Launch]) -> Cause:
    """The account of a launch that it may be of, whose end nobody knows; else nobody's."""
    there = (launch.cause for launch in launches if (launch.group, launch.zone) == (group.name, instance.zone))
    return next(there, UNASKED)
