"""What is made of ECS's word on a task that ended: why, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.endings import MAX_CHARS, ending_of

LOG = "aws logs tail /diogenes-prod/control-plane --since 30m"


@pytest.mark.parametrize(
    ("task", "why", "fix"),
    [
        (
            {"stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError: ref …: not found"},
            "CannotPullContainerError: ref …: not found.",
            "`pulumi up` builds it and pushes it again",
        ),
        (
            {"stopCode": "TaskFailedToStart", "stoppedReason": "ResourceInitializationError: failed to create log"},
            "ResourceInitializationError: failed to create log.",
            "a role's permission",
        ),
        (
            {
                "stopCode": "EssentialContainerExited",
                "stoppedReason": "Essential container in task exited",
                "containers": [{"exitCode": 3}],
            },
            "Essential container in task exited (exit code 3).",
            LOG,
        ),
        (
            {
                "stoppedReason": "Essential container in task exited",
                "containers": [{"exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage"}],
            },
            "Essential container in task exited; OutOfMemoryError: Container killed due to memory usage "
            "(exit code 137).",
            "for its memory",
        ),
        (
            {"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Task failed ELB health checks in (target …)"},
            "Task failed ELB health checks in (target …).",
            LOG,
        ),
        ({"stopCode": "TaskFailedToStart"}, "TaskFailedToStart.", "diogenes doctor"),
        ({}, "no reason was given.", "pulumi up"),
    ],
)
def test_it_is_told_in_awss_words_with_what_to_do(task: dict[str, Any], why: str, fix: str) -> None:
    found = ending_of(task, log=LOG)
    assert found
    assert found.why == why
    assert fix in found.fix
    assert found.fix.endswith("nothing else has to be done.")


@pytest.mark.parametrize(
    "task",
    [
        {"stopCode": "UserInitiated", "stoppedReason": "Task stopped by user"},
        {
            "stopCode": "ServiceSchedulerInitiated",
            "stoppedReason": "Scaling activity initiated by (deployment ecs-svc/1)",
        },
    ],
)
def test_what_was_told_to_end_is_no_failure(task: dict[str, Any]) -> None:
    assert ending_of(task, log=LOG) is None


def test_words_without_end_are_cut() -> None:
    found = ending_of({"stoppedReason": "x" * 5000}, log=LOG)
    assert found
    assert len(found.why) <= MAX_CHARS + 1
