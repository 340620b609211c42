"""What the doctor says of a deployment: its tables, its control plane, its models, its machines, its site."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.doctor.deployed import check_house, check_models, check_orphans, check_site, check_tables
from control_plane.doctor.finding import Finding, Status
from control_plane.doctor.ports import Fleet, House, Page
from control_plane.doctor.stack import Remedies
from control_plane.ports import Front, FrontState, Instance, Stage, Wish
from control_plane.schema import TABLES
from gpu_node.protocol import Failure, NodeState
from tests.doctor.fakes import (
    ASLEEP,
    AWAKE,
    EMPTY,
    LONG_AGO,
    NAME,
    NOW,
    REGION,
    FakeWeb,
    Patient,
    group,
    machine,
    model,
    node,
    row,
)

REMEDIES = Remedies("diogenes-prod", "prod", REGION)
RESTING = Fleet((), (), (group(),), (row(),), ())
SERVING = replace(RESTING, machines=(machine(),), nodes=(node(),))


def test_a_missing_table_is_a_failure_that_names_it() -> None:
    there = frozenset(table.name for table in TABLES) - {"usage"}
    found = check_tables(there, REMEDIES)
    assert (found.status, found.fix) == (Status.FAILURE, "pulumi up --stack prod")
    assert "diogenes-prod-usage" in found.message


# -- the control plane


def house(found: House | None) -> Finding:
    return check_house(found, REMEDIES, now=NOW)


@pytest.mark.parametrize("found", [ASLEEP, AWAKE])
def test_a_control_plane_in_any_settled_state_is_fine(found: House) -> None:
    assert house(found).status is Status.OK


def test_no_service_is_a_failure() -> None:
    assert house(None).status is Status.FAILURE


def test_a_control_plane_that_wakes_is_fine_at_first() -> None:
    assert house(waking(since=NOW - 60)).status is Status.OK


def test_one_that_wakes_for_ever_is_a_failure_with_the_services_own_words() -> None:
    found = house(waking(since=NOW - 900))
    assert found.status is Status.FAILURE
    assert "CannotPullContainerError" in found.message
    assert found.fix == "aws logs tail /diogenes-prod/control-plane --since 30m --region us-east-1"


def test_a_wake_that_failed_is_a_failure_until_one_succeeds() -> None:
    failed = Failure("control_plane_not_starting", "Its image is not there.", "Push it.")
    found = house(replace(ASLEEP, front=Front(since=NOW - 400, failure=failed, failed_at=NOW - 400)))
    assert (found.status, found.fix) == (Status.FAILURE, "Push it.")
    assert found.message == "its last wake failed 7 min ago: Its image is not there."


def test_a_listener_that_disagrees_for_long_is_a_warning() -> None:
    found = house(replace(AWAKE, stage=replace(AWAKE.stage, facing_control_plane=False)))
    assert found.status is Status.WARNING
    assert "requests go to the night watch" in found.message


def test_a_listener_that_disagrees_for_a_moment_is_fine() -> None:
    turning = replace(AWAKE, front=Front(FrontState.AWAKE, 4, NOW - 5))
    assert house(replace(turning, stage=replace(AWAKE.stage, facing_control_plane=False))).status is Status.OK


def waking(*, since: float) -> House:
    stage = Stage(desired=1, healthy=False, facing_control_plane=False)
    return House(Front(FrontState.WAKING, 3, since), stage, 0, "task failed: CannotPullContainerError")


# -- the models


def models(fleet: Fleet) -> dict[str, Finding]:
    return {found.check: found for found in check_models(fleet, [model()], REMEDIES, now=NOW)}


def test_a_resting_and_a_serving_model_are_fine() -> None:
    assert models(RESTING)[f"model:{NAME}"].message == "cold"
    assert models(SERVING)[f"model:{NAME}"].message == "ready: i-1 (g5.xlarge, us-east-1a)"


def test_a_model_that_is_being_started_is_fine() -> None:
    wish = Wish(NAME, 1, NOW + 60, "you@example.com", NOW)
    assert models(replace(RESTING, wishes=(wish,)))[f"model:{NAME}"].message == "starting"


def test_a_standing_failure_is_told_with_what_mends_it() -> None:
    gated = Failure("gated_model", "The repository is gated.", "Accept its terms.", permanent=True)
    failed = replace(RESTING, rows=(row(failures=2, failure=gated, failed_at=LONG_AGO),))
    found = models(failed)[f"model:{NAME}"]
    assert found.status is Status.FAILURE
    assert "The repository is gated." in found.message
    assert found.fix is not None
    assert found.fix.startswith("Accept its terms.")


def test_a_row_that_cannot_be_used_is_a_failure() -> None:
    broken = replace(RESTING, rows=(row(override={"idleTimeout": -1}),))
    assert models(broken)[f"model:{NAME}"].status is Status.FAILURE


def test_a_model_that_was_configured_but_not_deployed_is_a_warning() -> None:
    assert models(EMPTY)[f"configuration:{NAME}"].status is Status.WARNING


def test_a_configuration_that_was_changed_since_is_a_warning() -> None:
    older = row()
    changed = replace(RESTING, rows=(replace(older, config={**older.config, "idleTimeout": 5}),))
    assert models(changed)[f"configuration:{NAME}"].status is Status.WARNING


def test_a_model_that_was_removed_but_is_still_deployed_is_a_warning() -> None:
    found = models(replace(RESTING, rows=(row(), row("old"))))
    assert found["configuration:old"].status is Status.WARNING


# -- what nobody looks after


def orphans(fleet: Fleet) -> list[Finding]:
    return check_orphans(fleet, REMEDIES, now=NOW)


def test_where_all_is_known_there_are_no_orphans() -> None:
    for fleet in (RESTING, SERVING):
        [found] = orphans(fleet)
        assert (found.check, found.status) == ("orphans", Status.OK)


def test_a_machine_without_a_row_is_a_failure_with_the_command_that_ends_it() -> None:
    [found] = orphans(replace(RESTING, machines=(machine("i-lost"),)))
    assert (found.check, found.status) == ("orphans:i-lost", Status.FAILURE)
    assert found.fix is not None
    assert found.fix.endswith("aws ec2 terminate-instances --region us-east-1 --instance-ids i-lost")


def test_a_machine_that_was_launched_just_now_is_no_orphan() -> None:
    [found] = orphans(replace(RESTING, machines=(machine("i-new", launched_at=NOW - 20),)))
    assert found.status is Status.OK


def test_a_row_without_a_machine_is_a_warning() -> None:
    [found] = orphans(replace(RESTING, nodes=(node("i-gone"),)))
    assert (found.check, found.status) == ("orphans:i-gone", Status.WARNING)


def test_a_row_that_was_written_just_now_is_no_orphan() -> None:
    [found] = orphans(replace(RESTING, nodes=(node(launched_at=NOW - 5, state=NodeState.PENDING),)))
    assert found.status is Status.OK


@pytest.mark.parametrize(("alive", "status"), [(0, Status.WARNING), (1, Status.FAILURE)])
def test_a_group_of_no_model_is_worse_when_something_runs_in_it(alive: int, status: Status) -> None:
    instances = [Instance(node().id, "us-east-1a", "g5.xlarge", alive=True)] * alive
    [found] = orphans(replace(RESTING, groups=(group(), group("old", instances=instances))))
    assert found.status is status
    assert "old" in found.message


def test_a_model_without_a_group_is_a_failure() -> None:
    [found] = orphans(replace(RESTING, groups=()))
    assert (found.check, found.status) == (f"orphans:{NAME}", Status.FAILURE)


# -- the site


async def test_a_site_that_answers_and_an_api_that_asks_for_a_key_are_fine() -> None:
    web = FakeWeb()
    found = await check_site(web, "site.example", "api.example", remedies=REMEDIES)
    assert [finding.status for finding in found] == [Status.OK, Status.OK]
    assert web.asked == ["https://site.example/", "https://api.example/v1/models"]


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (Page(0, trouble="Name or service not known"), "does not answer: Name or service not known"),
        (Page(503, "text/html"), "answers 503 text/html"),
        (Page(200, "text/html"), "answers 200 text/html"),  # the web app, where the API should be
    ],
)
async def test_an_api_that_does_not_answer_as_one_is_a_failure(page: Page, words: str) -> None:
    [_, found] = await check_site(FakeWeb({"https://d/v1/models": page}), "d", "d", remedies=REMEDIES)
    assert found.status is Status.FAILURE
    assert words in found.message
    assert found.fix


async def test_no_distribution_is_a_failure() -> None:
    patient = Patient()
    assert patient.account is not None
    patient.account.domain = None
    assert (await patient.found("site")).status is Status.FAILURE


async def test_a_domain_of_cloudfronts_serves_both_and_one_of_the_load_balancers_the_api_alone() -> None:
    own = {"domain": "llm.example.org", "certificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/1"}
    behind, before = Patient(values=own), Patient(values={**own, "edge": "public"})
    await behind.diagnosis()
    await before.diagnosis()
    assert behind.web.asked == ["https://llm.example.org/", "https://llm.example.org/v1/models"]
    assert before.web.asked == ["https://d1.cloudfront.net/", "https://llm.example.org/v1/models"]
