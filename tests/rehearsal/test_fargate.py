"""The service on Fargate, step by step, by a clock that only the test moves."""

from __future__ import annotations

from dataclasses import replace

from rehearsal.ecs_records import EXITED, SCALED, UNHEALTHY
from rehearsal.fargate import DEPROVISIONING, MAX_PAUSE_S, PAUSE_S, STOPPED, Rolling
from tests.rehearsal.fargate_bench import CHECKS, EARLY, Bench


def test_nothing_runs_until_a_task_is_desired() -> None:
    bench = Bench()
    bench.after()
    assert (bench.made, bench.service.targets()) == ([], [])
    bench.desired = 1
    bench.after()
    bench.after()
    (task,) = bench.made
    assert task.launched == 1


def test_a_task_is_healthy_after_two_checks_in_a_row_and_shown_only_then() -> None:
    bench = Bench(desired=1)
    bench.after()
    (task,) = bench.made
    task.healthy = True
    bench.after(CHECKS.interval_s)
    assert bench.healthy == set()
    bench.after(CHECKS.interval_s - 1)
    assert bench.healthy == set()
    bench.after(1)
    assert bench.healthy == {task.address}


def test_where_none_is_healthy_any_task_is_better_than_none() -> None:
    bench = Bench(desired=1)
    bench.after()
    assert bench.service.targets() == [bench.made[0].address]


def test_a_task_that_shall_end_gets_no_new_request_and_is_told_so_only_when_the_delay_is_over() -> None:
    """Also where nothing is open: AWS shows its target as draining to the end, and ECS waits for that."""
    bench = Bench()
    task = bench.up()
    bench.open_requests, bench.desired = 1, 0
    bench.after()
    bench.open_requests = 0
    bench.after(CHECKS.deregistration_s - 1)
    assert (bench.shown, bench.service.targets(), task.stopped) == ({task.address: "draining"}, [], 0)
    bench.after(1)
    bench.after()
    bench.after(CHECKS.removal_s)
    assert (task.stopped, bench.service.tasks, bench.shown, bench.broken) == (1, [], {}, [])


def test_a_task_without_open_requests_goes_at_once_where_nobody_wants_to_wait() -> None:
    bench = Bench(checks=EARLY)
    task = bench.up()
    bench.open_requests, bench.desired = 1, 0
    bench.after()
    bench.after(CHECKS.deregistration_s - 1)
    assert task.stopped == 0
    bench.open_requests = 0
    bench.after()
    bench.after()
    bench.after(CHECKS.removal_s)
    assert (task.stopped, bench.service.tasks) == (1, [])


def test_a_request_that_does_not_end_is_broken_off_before_the_task_is_told_to_end() -> None:
    bench = Bench()
    task = bench.up()
    bench.open_requests, bench.desired = 1, 0
    bench.after()
    bench.after(CHECKS.deregistration_s)
    assert bench.broken == [task.address]
    bench.after()
    assert task.stopped == 1


def test_a_target_is_initial_then_healthy_then_draining_then_gone_and_its_end_is_heard() -> None:
    bench = Bench(desired=1)
    bench.after()
    (task,) = bench.made
    assert bench.shown == {task.address: "initial"}
    bench.up()
    assert bench.shown == {task.address: "healthy"}
    bench.desired = 0
    bench.after()
    assert (bench.shown, bench.heard) == ({task.address: "draining"}, [])
    bench.after(CHECKS.deregistration_s)
    bench.after()
    assert (bench.shown, bench.heard) == ({}, [DEPROVISIONING])
    bench.after(CHECKS.removal_s)
    assert (bench.shown, bench.heard) == ({}, [DEPROVISIONING, STOPPED])


def test_the_target_of_a_task_that_died_is_faced_until_ecs_has_taken_it_out() -> None:
    """Whoever looks when the task is only just DEPROVISIONING finds all in order."""
    bench = Bench()
    task = bench.up()
    bench.service.capacity = False
    task.kill()
    bench.after()
    bench.after(CHECKS.removal_s - 1)
    assert (bench.service.targets(), bench.shown) == ([task.address], {task.address: "healthy"})
    assert (len(bench.service.tasks), bench.heard) == (1, [DEPROVISIONING])
    bench.after(1)
    assert (bench.service.targets(), bench.shown, bench.service.tasks) == ([], {}, [])
    assert bench.heard == [DEPROVISIONING, STOPPED]


def test_it_is_unhealthy_where_its_checks_find_out_sooner() -> None:
    """Then the next one, which was begun at once, is the only healthy one."""
    bench = Bench(checks=replace(CHECKS, removal_s=3600.0))
    task = bench.up()
    task.kill()
    bench.after()
    (_, new) = bench.made
    new.healthy = True
    for _ in range(CHECKS.unhealthy):
        bench.after(CHECKS.interval_s)
    assert bench.shown == {task.address: "unhealthy", new.address: "healthy"}
    for _ in range(20):
        bench.after(CHECKS.interval_s)
    assert (bench.service.targets(), len(bench.made), bench.ends) == ([new.address], 2, [("arn-1", EXITED, 1)])


def test_a_deployment_ends_a_task_when_the_next_one_is_healthy() -> None:
    bench = Bench()
    old = bench.up()
    bench.open_requests = 1
    bench.service.replace()
    bench.after()
    assert len(bench.made) == 2
    assert (bench.service.targets(), bench.healthy) == ([old.address], {old.address})
    new = bench.made[1]
    new.healthy = True
    bench.after(CHECKS.interval_s)
    assert bench.healthy == {old.address}
    bench.after(CHECKS.interval_s)
    assert (bench.service.targets(), bench.healthy, old.stopped) == ([new.address], {new.address}, 0)
    bench.after(CHECKS.deregistration_s)
    bench.after()
    bench.after(CHECKS.removal_s)
    assert (old.stopped, len(bench.made), len(bench.service.tasks)) == (1, 2, 1)


def test_a_task_that_never_gets_healthy_replaces_none() -> None:
    bench = Bench()
    old = bench.up()
    bench.service.replace()
    for _ in range(10):
        bench.after(CHECKS.interval_s)
    assert (bench.service.targets(), old.stopped, len(bench.made)) == ([old.address], 0, 2)


def test_who_wakes_while_a_task_ends_does_not_wait_for_its_end() -> None:
    bench = Bench()
    bench.up()
    bench.open_requests, bench.desired = 1, 0
    bench.after()
    bench.desired = 1
    bench.after()
    assert (len(bench.made), bench.service.targets()) == (2, [bench.made[1].address])


def test_there_are_never_two_tasks_where_the_service_allows_one() -> None:
    bench = Bench(rolling=Rolling(healthy_percent=0, most_percent=100), checks=EARLY)
    bench.up()
    bench.open_requests = 1
    bench.service.replace()
    bench.after()
    assert len(bench.made) == 1
    bench.open_requests = 0
    bench.after()
    bench.after()
    assert len(bench.made) == 2
    assert bench.made[0].address != bench.made[1].address


def test_a_task_that_is_not_healthy_any_more_is_replaced() -> None:
    bench = Bench()
    task = bench.up()
    bench.after(CHECKS.grace_s)
    task.healthy = False
    for _ in range(CHECKS.unhealthy - 1):
        bench.after(CHECKS.interval_s)
    assert bench.healthy == {task.address}
    bench.after(CHECKS.interval_s)
    assert (bench.shown, len(bench.made)) == ({task.address: "draining", "task-2": "initial"}, 2)
    bench.after(CHECKS.deregistration_s)
    assert task.stopped == 1


def test_within_its_grace_period_it_is_unhealthy_faced_for_want_of_another_and_not_replaced() -> None:
    bench = Bench()
    task = bench.up()
    task.healthy = False
    for _ in range(CHECKS.unhealthy):
        bench.after(CHECKS.interval_s)
    assert (bench.shown, bench.service.targets(), len(bench.made)) == (
        {task.address: "unhealthy"},
        [task.address],
        1,
    )
    task.healthy = True
    for _ in range(20):
        bench.after(CHECKS.interval_s)
    assert (bench.shown, len(bench.made)) == ({task.address: "healthy"}, 1)


def test_a_task_that_never_gets_healthy_is_replaced_when_its_grace_period_is_over_and_so_is_the_next() -> None:
    bench = Bench(desired=1)
    bench.after()
    for _ in range(int(CHECKS.grace_s / CHECKS.interval_s) - 1):
        bench.after(CHECKS.interval_s)
    assert (bench.shown, len(bench.made)) == ({"task-1": "unhealthy"}, 1)
    bench.after(CHECKS.interval_s)
    assert (bench.shown, len(bench.made)) == ({"task-1": "draining", "task-2": "initial"}, 2)
    for _ in range(int(CHECKS.grace_s / CHECKS.interval_s)):
        bench.after(CHECKS.interval_s)
    assert bench.ends == [("arn-1", UNHEALTHY, 0)]
    assert (bench.shown, len(bench.made)) == ({"task-2": "draining", "task-3": "initial"}, 3)


def test_a_healthy_task_that_ends_by_itself_is_buried_and_the_next_one_starts_at_once() -> None:
    bench = Bench()
    task = bench.up()
    task.kill()
    bench.after()
    assert (len(bench.made), bench.shown, task.stopped) == (2, {task.address: "healthy", "task-2": "initial"}, 1)
    assert bench.ends == [("arn-1", EXITED, 1)]
    assert "the control plane ended by itself (exit code 1); ECS starts the next one" in bench.told


def test_tasks_that_never_are_healthy_go_on_for_ever_after_ever_longer_pauses() -> None:
    bench = Bench(desired=1)
    bench.after()
    pauses = []
    for number in range(1, 9):
        bench.made[-1].kill()
        bench.after()
        paused = 0.0
        while len(bench.made) == number:
            paused += PAUSE_S
            bench.after(PAUSE_S)
        pauses.append(paused)
    assert pauses == [0, 1, 2, 4, 8, 16, MAX_PAUSE_S, MAX_PAUSE_S]
    assert bench.ends == [(f"arn-{number}", EXITED, 1) for number in range(1, 9)]


def test_the_first_of_them_in_a_row_shows_the_end_of_its_log_and_the_others_one_line() -> None:
    bench = Bench(desired=1)
    bench.after()
    for _ in range(2):
        bench.made[-1].kill()
        bench.after()
    first, second = (line for line in bench.told if "before it was healthy" in line)
    assert first == (
        "the control plane ended before it was healthy (exit code 1); ECS starts the next one at once. "
        "Its log ends so:\nfamous last words"
    )
    assert second.endswith("ECS starts the next one in 1 s")


def test_a_healthy_one_and_a_new_wake_end_the_row() -> None:
    bench = Bench(desired=1)
    bench.after()
    for _ in range(3):
        bench.made[-1].kill()
        bench.after(MAX_PAUSE_S)
    bench.after(MAX_PAUSE_S)
    bench.up().kill()
    bench.after()
    bench.made[-1].kill()
    bench.after()
    assert len(bench.made) == 5  # neither of the last two was waited for
    bench.made[-1].kill()
    bench.after()
    bench.desired = 0
    bench.after()
    bench.desired = 1
    bench.after()
    assert len(bench.made) == 6


def test_where_fargate_has_no_capacity_no_task_starts() -> None:
    bench = Bench()
    bench.up().kill()
    bench.service.capacity = False
    for _ in range(3):
        bench.after(MAX_PAUSE_S)
    assert (len(bench.made), bench.shown) == (1, {})
    bench.service.capacity = True
    bench.after()
    assert len(bench.made) == 2


def test_each_end_is_told_with_its_reason() -> None:
    bench = Bench(checks=EARLY)
    bench.up().healthy = False
    bench.after(CHECKS.grace_s)
    for _ in range(CHECKS.unhealthy + 1):
        bench.after(CHECKS.interval_s)
    assert bench.ends == [("arn-1", UNHEALTHY, 0)]
    bench.up()
    bench.desired = 0
    for _ in range(3):
        bench.after()
    assert bench.ends[1:] == [("arn-2", SCALED, 0)]


def test_one_that_dies_while_it_drains_has_no_successor_of_its_own() -> None:
    bench = Bench()
    task = bench.up()
    bench.open_requests, bench.desired = 1, 0
    bench.after()
    task.kill()
    bench.after()
    bench.after(CHECKS.removal_s)
    assert (bench.service.tasks, bench.ends, len(bench.made)) == ([], [("arn-1", SCALED, 1)], 1)


def test_in_the_end_everything_is_stopped() -> None:
    bench = Bench()
    task = bench.up()
    bench.service.close()
    assert (task.stopped, bench.healthy, bench.service.tasks) == (1, set(), [])
