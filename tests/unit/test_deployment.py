"""The stack's configuration: what is refused, all at once, and the line that mends each; what is only noted."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.deployment import SECRETS, SETTINGS, Deployment, Edge, InvalidDeployment, OidcProvider
from control_plane.geometry import Geometry, Unread
from control_plane.model import MAX_SLUG_CHARS, slug
from control_plane.telemetry_settings import Telemetry
from tests.unit.stack_file import StackFile
from tests.unit.stacks import ARN, BROKEN, LARGE, NUMBERS_32B, SMALL, SOUND

ROOT = Path(__file__).parents[2]
NOT_ASKED = Unread("the hub was not asked", asked=False)


def offline(repository: str, revision: str | None) -> Unread:
    return NOT_ASKED


def parse(values: dict[str, Any], **others: Any) -> Deployment:
    arguments: dict[str, Any] = {
        "project": "diogenes",
        "stack": "prod",
        "region": "us-east-1",
        "read_geometry": offline,
    } | others
    return Deployment.parse(values, **arguments)


def refused(values: dict[str, Any], **others: Any) -> InvalidDeployment:
    with pytest.raises(InvalidDeployment) as error:
        parse(values, **others)
    return error.value


def filled(line: str) -> str:
    """A line that mends, with what only the operator knows put in."""
    blanks = {"<id>": "0a1b", "<your address>": "ann@example.net", "<owner/name>": "org/Small-8B-AWQ"}
    for blank, value in blanks.items():
        line = line.replace(blank, value)
    return line


# -- what is sound --------------------------------------------------------------------------------------------------


def test_a_model_an_owner_and_a_way_to_sign_in_are_enough() -> None:
    deployment = parse(SOUND)
    assert (deployment.namespace, deployment.region, deployment.notes) == ("diogenes-prod", "us-east-1", ())
    assert [model.name for model in deployment.models] == ["org/Small-8B"]
    assert (deployment.edge, deployment.zones, deployment.cpu, deployment.memory) == (Edge.CLOUDFRONT, 3, 512, 1024)
    assert (deployment.google_client_id, deployment.domain, deployment.ami_id) == (None, None, None)


def test_everything_that_is_configured_arrives() -> None:
    values = SOUND | {
        "allowedEmails": ["me@example.org", "*@example.com"],
        "googleClientId": "12-ab.apps.googleusercontent.com",
        "oidcProviders": [{"name": "work", "issuer": "https://id.example.org/realm", "clientId": "dio"}],
        "edge": "public",
        "domain": "llm.example.org",
        "certificateArn": ARN,
        "hostedZoneId": "Z0123456789ABC",
        "zones": 2,
        "architecture": "amd64",
        "cpu": 1024,
        "memory": 2048,
        "controlPlaneIdleTimeout": 900,
        "lambdaConcurrency": 1000,
        "logRetentionDays": 30,
        "amiId": "ami-0123456789abcdef0",
        "rootVolumeGb": 200,
        "rootVolumeMibS": 500,
        "monthlyBudgetUsd": 50,
        "userMonthlyBudgetUsd": 20,
        "speculativeBudgetUsd": 2,
        "budgetHardCapPercent": 150,
        "metricsFrom": "10.40.0.0/16",
        "tracesEndpoint": "https://otlp.example.org/v1/traces",
    }
    deployment = parse(values)
    assert deployment == Deployment(
        namespace="diogenes-prod",
        region="us-east-1",
        models=deployment.models,
        allowed_emails=("me@example.org", "*@example.com"),
        google_client_id="12-ab.apps.googleusercontent.com",
        oidc_providers=(OidcProvider("work", "https://id.example.org/realm", "dio"),),
        edge=Edge.PUBLIC,
        domain="llm.example.org",
        certificate_arn=ARN,
        hosted_zone_id="Z0123456789ABC",
        zones=2,
        architecture="amd64",
        cpu=1024,
        memory=2048,
        control_plane_idle_timeout_s=900,
        lambda_concurrency=1000,
        log_retention_days=30,
        ami_id="ami-0123456789abcdef0",
        root_volume_gb=200,
        root_volume_mib_s=500,
        monthly_budget_usd=50,
        user_monthly_budget_usd=20,
        speculative_budget_usd=2,
        budget_hard_cap_percent=150,
        telemetry=Telemetry("10.40.0.0/16", "https://otlp.example.org/v1/traces"),
    )


def test_a_person_may_spend_what_the_deployment_may_unless_told_otherwise() -> None:
    assert parse(SOUND | {"monthlyBudgetUsd": 50}).user_monthly_budget_usd == 50


def test_what_pulumi_hands_over_as_text_reads_alike() -> None:
    values = SOUND | {"zones": 2, "domain": "", "oidcProviders": [], "cpu": 256}
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    assert parse(text) == parse(values)


def test_empty_texts_are_as_good_as_missing() -> None:
    empty = {"googleClientId": "", "domain": "", "certificateArn": "", "hostedZoneId": "", "amiId": "", "hfToken": ""}
    bare = SMALL | {"repository": "", "revision": ""}
    deployment = parse(SOUND | empty | {"models": [bare]})
    assert (deployment.models[0].repository, deployment.models[0].revision) == ("org/Small-8B", None)
    assert replace(deployment, models=()) == replace(parse(SOUND), models=())


def test_the_engine_is_installed_unless_it_is_a_container_of_some_image() -> None:
    plain = parse(SOUND)
    assert (plain.engine, plain.engine_image, plain.bake_image) == ("install", None, False)
    pinned = f"vllm/vllm-openai@sha256:{'ab' * 32}"
    container = parse(SOUND | {"engine": "container", "engineImage": pinned})
    assert (container.engine, container.engine_image) == ("container", pinned)
    assert parse(SOUND | {"bakeImage": "true"}).bake_image


@pytest.mark.parametrize(
    ("odd", "told", "mend"),
    [
        ({"engine": "podman"}, "must be one of install, container", "engine install"),
        ({"engineImage": "vllm:1"}, "of no use unless engine is container", "rm"),
        ({"engine": "container", "engineImage": "a b"}, "does not look like", "vllm/vllm-openai:v0.32.0"),
        ({"engine": "container", "bakeImage": True}, "bakes an installed engine", "bakeImage false"),
        ({"bakeImage": "maybe"}, "must be true or false", "bakeImage false"),
    ],
)
def test_an_engine_that_cannot_be_brought_is_refused(odd: dict[str, Any], told: str, mend: str) -> None:
    (problem,) = refused(SOUND | odd).problems
    assert told in problem
    assert mend in problem


def test_a_domain_is_lowered() -> None:
    assert parse(SOUND | {"domain": "LLM.Example.org", "certificateArn": ARN}).domain == "llm.example.org"


def test_addresses_of_example_domains_and_as_many_as_one_parameter_holds_may_come_in() -> None:
    emails = ["me@example.com", "you@example.com", "*@example.net"]
    emails += [f"somebody-{number:05}@example.org" for number in range(149)]
    emails.append("x" * (4096 - len(",".join(emails)) - len(",@example.org")) + "@example.org")
    assert len(",".join(emails)) == 4096
    assert parse(SOUND | {"allowedEmails": emails}).allowed_emails == tuple(emails)
    (problem,) = refused(SOUND | {"allowedEmails": [*emails[:-1], "x" + emails[-1]]}).found
    assert problem.mend == "pulumi config rm --path 'allowedEmails[152]'"


def test_google_may_be_an_issuer_by_hand_where_there_is_no_client_id_of_its_own() -> None:
    by_hand = [{"name": "google", "issuer": "https://accounts.google.com", "clientId": "y"}]
    assert parse(SOUND | {"oidcProviders": by_hand}).oidc_providers[0].name == "google"


def test_who_is_told_besides_the_owner_is_kept_and_the_webhook_is_not() -> None:
    told = {"notificationEmails": ["Ann@example.org"], "notificationWebhook": "https://hooks.example.org/secret"}
    deployment = parse(SOUND | told)
    assert deployment.notification_emails == ("ann@example.org",)
    assert "hooks.example.org" not in repr(deployment)
    (wrong,) = refused(SOUND | {"notificationWebhook": "http://hooks.example.org/secret"}).found
    assert wrong.what == "notificationWebhook is not an https URL"
    assert wrong.mend == "pulumi config set --secret notificationWebhook"


def test_a_token_for_the_hub_may_be_there_and_is_not_kept() -> None:
    deployment = parse(SOUND | {"hfToken": "hf_secret"})
    assert "hf_secret" not in repr(deployment)


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_deployed_is_refused_with_the_reason(case: str) -> None:
    change, told = BROKEN[case]
    error = refused(SOUND | change)
    assert any(told in problem for problem in error.problems), error.problems
    assert all(problem.startswith(found.what) for problem, found in zip(error.problems, error.found, strict=True))
    assert str(error) == "\n".join(error.problems)


@pytest.mark.parametrize("case", BROKEN)
def test_the_lines_that_it_names_mend_it(case: str) -> None:
    file = StackFile(SOUND | BROKEN[case][0])
    for _ in range(3):  # what was hidden behind a first problem shows after it
        try:
            parse(file.values)
        except InvalidDeployment as error:
            for found in error.found:
                file.obey(filled(found.mend))
    parse(file.values)


def test_a_model_that_fits_nothing_is_removed_once_and_no_other_with_it() -> None:
    file = StackFile(SOUND | BROKEN["too large for anything"][0])
    for found in refused(file.values).found:
        file.obey(found.mend)
    assert [model.name for model in parse(file.values).models] == ["org/Small-8B"]


def test_the_problems_of_everything_are_told_at_once_and_mended_in_one_go() -> None:
    odd = [
        SMALL | {"instanceTypes": ["g9.xlarge", "g5.xlarge"], "idleTimeout": 0},
        "org/Other",
        SMALL | {"name": "org/Third", "market": "auction"},
        7,
        LARGE | {"instanceTypes": ["g5.xlarge", "g5.2xlarge"]},
    ]
    values = {"models": odd, "zones": 1, "edge": "public", "speed": "fast", "hfToken": "hf_x"}
    error = refused(values, stack="Production", region=None, in_clear=["hfToken"])
    told = "\n".join(error.problems)
    for part in (
        "idleTimeout must",
        "g9.xlarge",
        "models[1] is",
        "auction",
        "models[3] is",
        "zones is",
        "wants a domain",
        "speed is not",
    ):
        assert part in told
    for part in (
        "no AWS region",
        "hfToken is stored in clear",
        "diogenes-Production",
        "allowedEmails is empty",
        "sign in",
    ):
        assert part in told
    file = StackFile(values)
    for found in error.found:
        file.obey(filled(found.mend))
    deployment = parse(file.values, stack=file.stack, region=file.region)
    assert [model.name for model in deployment.models] == ["org/Small-8B", "org/Third", "org/Large-32B"]


@pytest.mark.parametrize("stack", ["a-much-longer-name", "Prod", "my_stack", "x-", "-x", "a--b"])
def test_a_stack_whose_names_aws_would_refuse_is_refused(stack: str) -> None:
    (problem,) = refused(SOUND, stack=stack).problems
    assert "pulumi stack rename prod" in problem


REGION_MENDED = "pulumi config set aws:region us-east-1"


@pytest.mark.parametrize(
    "region", [None, "", "Virginia", "us-east", "us-east-1a", "us-east-0", "xx-nowhere-1", "us-east-1\n", "US-EAST-1"]
)
def test_a_region_is_wanted(region: str | None) -> None:
    (problem,) = refused(SOUND, region=region).found
    assert "region" in problem.what
    assert problem.mend == REGION_MENDED


@pytest.mark.parametrize(
    "region", ["us-gov-west-1", "cn-north-1", "us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1", "eusc-de-east-1"]
)
def test_a_region_where_arns_begin_otherwise_is_refused(region: str) -> None:
    (problem,) = refused(SOUND, region=region).found
    assert problem.what == f"{region} is in a partition of AWS apart, and every policy of Diogenes says arn:aws"
    assert problem.mend == REGION_MENDED


def test_a_certificate_is_asked_for_where_the_region_will_be() -> None:
    found = refused(SOUND | {"edge": "public", "domain": "llm.example.org"}, region="us-gov-west-1").found
    assert [problem.mend.partition(" ")[0] for problem in found] == ["pulumi", "pulumi"]
    assert "'arn:aws:acm:us-east-1:" in found[1].mend


def test_a_line_with_a_blank_is_refused_by_a_shell_as_it_stands() -> None:
    (problem,) = refused(SOUND | {"allowedEmails": ["you@example.com"]}).found
    assert problem.mend == "pulumi config set --path 'allowedEmails[0]' <your address>"
    done = subprocess.run(["/bin/sh", "-n", "-c", problem.mend], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "yntax error" in done.stderr


def test_a_certificate_of_a_public_edge_is_from_the_stacks_region() -> None:
    values = SOUND | {"edge": "public", "domain": "llm.example.org", "certificateArn": ARN}
    assert parse(values).certificate_arn == ARN
    (problem,) = refused(values, region="eu-west-1").problems
    assert "takes one from eu-west-1 only" in problem


def test_the_longest_names_stay_within_what_aws_allows() -> None:
    deployment = parse(SOUND | {"models": [SMALL | {"name": "x" * 128, "repository": "org/x"}]}, stack="x" * 15)
    assert len(f"{deployment.namespace}-control") <= 32
    assert len(slug(deployment.models[0].name)) <= MAX_SLUG_CHARS
    assert len(f"{deployment.namespace}-{slug(deployment.models[0].name)}-node") <= 64


# -- what is only noted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "region", ["eu-west-1", "ap-northeast-3", "ca-west-1", "il-central-1", "me-south-1", "sa-east-1"]
)
def test_another_region_has_prices_of_its_own(region: str) -> None:
    deployment = parse(SOUND, region=region)
    assert deployment.region == region
    assert deployment.notes == (f"all prices and costs told are list prices of us-east-1, not of {region}",)


def test_a_margin_too_small_to_promise_is_a_note() -> None:
    (note,) = parse(SOUND | {"models": [SMALL | {"vllmArgs": "--max-model-len 30000"}]}).notes
    assert note.startswith("org/Small-8B may not fit g5.xlarge: it needs 15.0 (weights)")


def test_a_model_of_which_nothing_is_known_is_a_note() -> None:
    bare = {key: value for key, value in SMALL.items() if key != "geometry"}
    (note,) = parse(SOUND | {"models": [bare]}, read_geometry=lambda *_: Unread("it is gated", asked=True)).notes
    assert note.startswith("whether org/Small-8B fits could not be checked: it is gated")
    error = refused(SOUND | {"models": [bare | {"instanceTypes": ["g5.xlrge"]}]})
    assert error.found[0].mend == "pulumi config set --path 'models[0].instanceTypes[0]' g5.xlarge"


def test_numbers_by_hand_stand_in_for_a_repository_that_was_asked_in_vain() -> None:
    (note,) = parse(SOUND, read_geometry=lambda *_: Unread("it is gated", asked=True)).notes
    assert note == "org/Small-8B was checked by the numbers of its geometry only: it is gated"


def test_what_the_repository_says_goes_before_numbers_by_hand() -> None:
    def read(repository: str, revision: str | None) -> Geometry:
        assert (repository, revision) == ("org/Small-8B-AWQ", "v2")
        return Geometry.of_numbers(NUMBERS_32B)

    model = SMALL | {"repository": "org/Small-8B-AWQ", "revision": "v2"}
    (problem,) = refused(SOUND | {"models": [model]}, read_geometry=read).problems
    assert "it needs 61.0 (weights)" in problem


# -- the files of the project ---------------------------------------------------------------------------------------


def test_the_stack_that_comes_with_the_project_lacks_nothing_but_its_owner() -> None:
    config = yaml.safe_load((ROOT / "Pulumi.prod.yaml").read_text())["config"]
    values = {name.removeprefix("diogenes:"): value for name, value in config.items() if name.startswith("diogenes:")}
    (problem,) = refused(values, region=config["aws:region"]).found
    assert problem.what == "allowedEmails[0] is you@example.com, a placeholder: alerts would go to a stranger"
    file = StackFile(values)
    file.obey(filled(problem.mend))
    deployment = parse(file.values, region=config["aws:region"])
    assert len(deployment.models) == 3
    assert deployment.notes == ()


def test_the_schema_of_the_stack_names_every_setting_and_its_default() -> None:
    schema = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    assert set(schema) == SETTINGS - set(SECRETS)
    defaults = {name: setting["default"] for name, setting in schema.items() if "default" in setting}
    assert parse(defaults | SOUND) == parse(SOUND)
    told = {problem.what for problem in refused(defaults).found}
    assert "no model is configured" in told  # by the program, since the Pulumi command would not say how to mend it
    kinds: dict[str, type] = {"string": str, "integer": int, "boolean": bool, "array": list}
    assert all(isinstance(default, kinds[schema[name]["type"]]) for name, default in defaults.items())
