"""The doctor as a whole: what is told of a healthy stack, of one not deployed yet, and of what cannot be looked at."""

from __future__ import annotations

import pytest

from control_plane.doctor.finding import Status, exit_status
from control_plane.doctor.ports import CannotLook, Denied, NoCredentials
from tests.doctor.fakes import AWAKE, NAME, FakeAccount, FakeHub, Patient


async def test_a_healthy_deployment_has_no_failure_and_no_warning() -> None:
    found = await Patient().diagnosis()
    assert [finding for finding in found if finding.status is not Status.OK] == []
    assert [finding.check for finding in found] == [
        "credentials",
        "configuration",
        f"hugging-face:{NAME}",
        "region",
        "quota.on-demand",
        "quota.spot",
        "quota.lambda",
        f"instance-types:{NAME}",
        "deployment",
        "control-plane",
        f"model:{NAME}",
        "orphans",
        "site",
        "api",
        "redirect-uri",
    ]


async def test_before_the_first_deployment_nothing_is_wrong_and_it_says_what_to_do() -> None:
    found = await Patient(FakeAccount(deployed=False)).diagnosis()
    assert exit_status(found) == 0
    [deployment] = [finding for finding in found if finding.check == "deployment"]
    assert deployment.fix == "pulumi up --stack prod"
    assert not {"control-plane", "site", "orphans"} & {finding.check for finding in found}


async def test_an_awake_control_plane_is_healthy_too() -> None:
    found = await Patient(FakeAccount(front=AWAKE)).found("control-plane")
    assert found.status is Status.OK
    assert found.message == "awake for 60 min; tasks wanted 1, running 1; requests go to the control plane"


async def test_without_credentials_one_failure_says_so_and_aws_is_not_asked_again() -> None:
    account = FakeAccount(troubles={"identity": NoCredentials("no usable AWS credentials here", "aws sso login")})
    found = await Patient(account).diagnosis()
    assert [finding.check for finding in found] == ["credentials", "configuration", f"hugging-face:{NAME}"]
    assert (found[0].status, found[0].fix) == (Status.FAILURE, "aws sso login")
    assert account.asked == ["identity"]


async def test_an_aws_that_does_not_answer_is_a_warning() -> None:
    account = FakeAccount(troubles={"identity": CannotLook("AWS (sts) did not answer", "look at the network")})
    found = await Patient(account).diagnosis()
    assert (found[0].check, found[0].status) == ("credentials", Status.WARNING)
    assert exit_status(found) == 0


@pytest.mark.parametrize(
    ("method", "check"),
    [
        ("region_enabled", "region"),
        ("quota", "quota.on-demand"),
        ("zones", "instance-types"),
        ("offerings", "instance-types"),
        ("tables", "deployment"),
        ("house", "control-plane"),
        ("fleet", "models"),
        ("site_domain", "site"),
    ],
)
async def test_what_may_not_be_looked_at_is_a_warning_that_names_the_permission(method: str, check: str) -> None:
    patient = Patient(FakeAccount(troubles={method: Denied("service:Operation")}))
    found = await patient.found(check)
    assert found.status is Status.WARNING
    assert "service:Operation is missing" in found.message
    assert found.fix is not None
    assert "service:Operation" in found.fix


async def test_a_check_that_hangs_costs_the_others_nothing() -> None:
    patient = Patient(FakeAccount(hangs="quota"), limit_s=0.05)
    found = {finding.check: finding for finding in await patient.diagnosis()}
    assert found["quota.on-demand"].status is Status.WARNING
    assert "no answer within" in found["quota.on-demand"].message
    assert found["region"].status is Status.OK


async def test_a_deployed_part_that_hangs_costs_the_others_nothing() -> None:
    patient = Patient(FakeAccount(hangs="house"), limit_s=0.05)
    found = {finding.check: finding for finding in await patient.diagnosis()}
    assert found["control-plane"].status is Status.WARNING
    assert found["orphans"].status is Status.OK


async def test_every_problem_of_the_configuration_is_told_with_the_line_that_mends_it() -> None:
    patient = Patient(values={"zones": 9, "edge": "moon"})
    found = [finding for finding in await patient.diagnosis() if finding.check == "configuration"]
    assert len(found) == 2
    assert all(finding.status is Status.FAILURE for finding in found)
    assert all(finding.fix and finding.fix.startswith("pulumi config set ") for finding in found)


async def test_a_configuration_with_problems_does_not_hide_the_deployment() -> None:
    found = {finding.check for finding in await Patient(values={"zones": 9}).diagnosis()}
    assert {"region", "deployment", "control-plane", "site", "orphans"} <= found
    assert "quota.on-demand" not in found


async def test_a_stack_without_a_region_is_told_so() -> None:
    found = await Patient(account=None, region=None).diagnosis()
    [problem] = [finding for finding in found if finding.check == "configuration"]
    assert problem.fix == "pulumi config set aws:region us-east-1"


async def test_a_token_in_clear_is_a_failure_and_never_shown() -> None:
    found = await Patient(values={"hfToken": "hf_verysecret"}).diagnosis()
    assert any("in clear" in finding.message for finding in found)
    assert "hf_verysecret" not in str(found)


async def test_the_hub_is_asked_with_the_deployed_token_unless_there_is_one_here() -> None:
    deployed, own = FakeHub(), FakeHub()
    await Patient(FakeAccount(token="hf_deployed"), hub=deployed).diagnosis()
    await Patient(FakeAccount(token="hf_deployed"), hub=own, hub_token="hf_mine").diagnosis()
    assert (deployed.tokens, own.tokens) == (["hf_deployed"], ["hf_mine"])


async def test_the_hub_is_asked_without_a_token_where_it_may_not_be_read() -> None:
    hub = FakeHub()
    found = await Patient(FakeAccount(troubles={"hub_token": Denied("ssm:GetParameter")}), hub=hub).diagnosis()
    assert hub.tokens == [None]
    assert exit_status(found) == 0
