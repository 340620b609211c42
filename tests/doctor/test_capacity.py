"""Quotas and offered instance types, against what the models need."""

from __future__ import annotations

import pytest

from control_plane.doctor.capacity import QUOTAS, check_functions, check_offerings, check_other_families, check_quota
from control_plane.doctor.finding import Finding, Status
from tests.doctor.fakes import REGION, FakeAccount, model

ON_DEMAND, SPOT = QUOTAS
SMALL = model("small")  # g5.xlarge, 4 vCPUs
LARGE = model("large", instanceTypes=["g5.12xlarge"])  # 48
BOTH = model("both", market="spot-then-on-demand")
SPOTTY = model("spotty", market="spot")


async def on_demand(vcpus: float, *models: object) -> Finding:
    account = FakeAccount(quotas={ON_DEMAND.code: vcpus, SPOT.code: 0})
    [found] = await check_quota(account, ON_DEMAND, models, REGION)  # type: ignore[arg-type]
    return found


async def test_a_quota_for_all_models_at_once_is_fine() -> None:
    found = await on_demand(52, SMALL, LARGE)
    assert found.status is Status.OK
    assert "L-DB2E81BA" in found.message


async def test_the_quota_of_a_new_account_is_a_failure_that_names_the_models_and_the_request() -> None:
    found = await on_demand(0, SMALL, LARGE)
    assert found.status is Status.FAILURE
    assert "small (4), large (48) cannot start" in found.message
    assert found.fix == (
        "aws service-quotas request-service-quota-increase --region us-east-1 --service-code ec2 "
        "--quota-code L-DB2E81BA --desired-value 52"
    )


async def test_a_quota_for_one_model_only_names_the_other() -> None:
    found = await on_demand(8, SMALL, LARGE)
    assert found.status is Status.FAILURE
    assert "large (48)" in found.message
    assert "small" not in found.message


async def test_a_quota_for_each_model_but_not_for_all_is_a_warning() -> None:
    found = await on_demand(48, SMALL, LARGE)
    assert found.status is Status.WARNING
    assert "all at the same time take 52" in found.message


async def test_every_node_that_a_model_may_have_counts() -> None:
    assert (await on_demand(8, model("many", maxInstances=3))).status is Status.WARNING


async def test_a_ladder_of_which_only_the_small_step_fits_is_a_warning() -> None:
    found = await on_demand(8, model("ladder", instanceTypes=["g5.12xlarge", "g5.xlarge"]))
    assert found.status is Status.WARNING
    assert "ladder (48)" in found.message


async def test_the_quota_of_a_market_that_no_model_uses_is_not_asked_for() -> None:
    account = FakeAccount(quotas={})
    [found] = await check_quota(account, SPOT, [SMALL], REGION)
    assert (found.status, account.asked) == (Status.OK, [])


@pytest.mark.parametrize(("wanted", "status"), [(SPOTTY, Status.FAILURE), (BOTH, Status.WARNING)])
async def test_no_spot_quota_stops_only_those_who_buy_nothing_else(wanted: object, status: Status) -> None:
    account = FakeAccount(quotas={SPOT.code: 0})
    [found] = await check_quota(account, SPOT, [wanted], REGION)  # type: ignore[list-item]
    assert found.status is status
    assert "L-3819A6DF" in found.message


async def functions(executions: int, *, counted: int) -> Finding:
    account = FakeAccount(quotas={"L-B99A9384": executions})
    [found] = await check_functions(account, REGION, counted=counted)
    assert found.check == "quota.lambda"
    assert f"{executions} requests" in found.message
    return found


@pytest.mark.parametrize("executions", [10, 49])
async def test_an_account_whose_lambda_holds_few_clients_is_told_how_to_ask_for_more(executions: int) -> None:
    found = await functions(executions, counted=10)
    assert found.status is Status.WARNING
    assert "6 clients are held, and the others told to come back" in found.message
    assert found.fix == (
        "aws service-quotas request-service-quota-increase --region us-east-1 --service-code lambda "
        "--quota-code L-B99A9384 --desired-value 1000"
    )


async def test_executions_that_the_stack_does_not_count_on_are_told_of() -> None:
    found = await functions(1000, counted=10)
    assert (found.status, found.fix) == (Status.OK, "pulumi config set lambdaConcurrency 1000")


@pytest.mark.parametrize(("executions", "sound"), [(100, 100), (10, 10), (5, 10)])
async def test_executions_that_the_account_does_not_have_are_a_failure(executions: int, sound: int) -> None:
    found = await functions(executions, counted=1000)
    assert (found.status, found.fix) == (Status.FAILURE, f"pulumi config set lambdaConcurrency {sound}")
    assert "lambdaConcurrency is 1000" in found.message


async def test_enough_of_them_and_all_counted_on_are_fine() -> None:
    found = await functions(1000, counted=1000)
    assert (found.status, found.fix) == (Status.OK, None)
    assert "900 clients are held" in found.message


def test_types_of_other_families_are_said_not_to_be_checked() -> None:
    [found] = check_other_families([SMALL, model("huge", instanceTypes=["p5.48xlarge"])])
    assert (found.check, found.status) == ("quota.other:huge", Status.WARNING)


async def offered(**zones: list[str]) -> Finding:
    ladder = model("ladder", instanceTypes=["g5.xlarge", "g6.xlarge"])
    account = FakeAccount(offered={name.replace("_", "."): where for name, where in zones.items()})
    [found] = await check_offerings(account, [ladder], zones=3)
    return found


async def test_types_in_several_zones_are_fine() -> None:
    found = await offered(g5_xlarge=["us-east-1a", "us-east-1b"], g6_xlarge=["us-east-1a"])
    assert (found.status, found.message) == (Status.OK, "g5.xlarge: us-east-1a, us-east-1b; g6.xlarge: us-east-1a")


async def test_a_type_that_is_offered_nowhere_is_a_warning_while_another_is() -> None:
    assert (await offered(g5_xlarge=["us-east-1a", "us-east-1b"])).status is Status.WARNING


async def test_no_type_in_any_zone_is_a_failure() -> None:
    found = await offered()
    assert found.status is Status.FAILURE
    assert found.fix is not None
    assert "aws:region" in found.fix


async def test_zones_that_are_not_used_do_not_count() -> None:
    found = await offered(g5_xlarge=["us-east-1d"], g6_xlarge=["us-east-1f"])
    assert (found.status, found.fix) == (Status.FAILURE, "pulumi config set zones 4")


async def test_a_zone_that_is_never_used_is_not_proposed() -> None:
    found = await offered(g5_xlarge=["us-east-1e"])
    assert found.status is Status.FAILURE
    assert found.fix is not None
    assert "zones" not in found.fix


async def test_one_zone_only_is_a_warning() -> None:
    found = await offered(g5_xlarge=["us-east-1a"], g6_xlarge=["us-east-1b"])
    assert found.status is Status.WARNING
    assert "sold out" in found.message
