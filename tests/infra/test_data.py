"""Tables, the models' rows, parameters, budget."""

from __future__ import annotations

import base64
import json

import pytest

from control_plane import schema
from control_plane.model import Model
from control_plane.webhook import signature
from gpu_node.protocol import from_attributes
from tests.infra.component import Registrations
from tests.infra.whole import CODER, GENERAL, GITHUB_SECRET, TRACES_HEADERS, WEBHOOK, configured, ran


@pytest.fixture(scope="module")
def registrations() -> Registrations:
    return configured("as published").registrations


@pytest.mark.parametrize("table", schema.TABLES, ids=lambda table: table.name)
def test_a_table_is_what_the_schema_says(registrations: Registrations, table: schema.Table) -> None:
    made = registrations.one("dynamodb/table:Table", f"data-{table.name}").inputs
    assert made["name"] == f"diogenes-desk-{table.name}"
    assert (made["hashKey"], made.get("rangeKey")) == (table.hash_key, table.range_key)
    assert {key["name"] for key in made["attributes"]} == {table.hash_key, table.range_key} - {None}
    assert made.get("ttl") == ({"attributeName": table.ttl, "enabled": True} if table.ttl else None)
    assert made["billingMode"] == "PAY_PER_REQUEST"
    assert made["pointInTimeRecovery"] == {"enabled": True}
    assert made["deletionProtectionEnabled"] is False


def test_there_are_seven_tables(registrations: Registrations) -> None:
    assert len(registrations.of("dynamodb/table:Table")) == len(schema.TABLES) == 7


def test_a_models_row_holds_its_configuration_only_and_is_pulumis_alone(registrations: Registrations) -> None:
    rows = [from_attributes(json.loads(row.inputs["item"])) for row in registrations.of(":TableItem")]
    assert {schema.CONFIGURED + CODER, schema.CONFIGURED + GENERAL} < {row["name"] for row in rows}
    assert sorted(row["place"] for row in rows) == list(range(len(rows)))  # so that a command can name the model
    for row in rows:
        assert row.keys() == {"name", "config", "place"}
        assert schema.CONFIGURED + Model.parse(row["config"]).name == row["name"]


def test_a_models_row_is_the_same_whatever_the_order_of_its_settings() -> None:
    one = {"name": "acme/model", "instanceTypes": ["g5.xlarge"], "idleTimeout": 60}
    other = dict(reversed(one.items()))
    rows = [ran(models=[model]).registrations.one(":TableItem").inputs["item"] for model in (one, other)]
    assert rows[0] == rows[1]


NAMES = ("allowed-emails", "oidc-clients", "session-key", "web-url")


def test_parameters_stand_under_the_namespace(registrations: Registrations) -> None:
    parameters = {each.inputs["name"]: each.inputs for each in registrations.of("ssm/parameter:Parameter")}
    assert parameters.keys() == {f"/diogenes-desk/{name}" for name in NAMES}
    assert parameters["/diogenes-desk/allowed-emails"]["value"] == "me@example.com,*@example.org"
    assert json.loads(parameters["/diogenes-desk/oidc-clients"]["value"]) == []


def test_the_issuers_of_sign_in_are_told_to_the_control_plane_and_the_page() -> None:
    registrations = configured("with sign-in").registrations
    client = "1234-abc.apps.googleusercontent.com"
    parameter = registrations.one("ssm/parameter:Parameter", "data-oidc-clients")
    google, github, work = json.loads(parameter.inputs["value"])
    assert google == {"id": "google", "name": "Google", "issuer": "https://accounts.google.com", "clientId": client}
    assert (github["id"], github["flow"], github["clientId"]) == ("github", "github", "Iv1.0123456789abcdef")
    assert work == {"id": "work", "name": "work", "issuer": "https://login.example.org", "clientId": "diogenes"}
    page = json.loads(registrations.one(":BucketObjectv2", "web-site/config.json").inputs["content"])
    assert page["providers"] == [{"id": each["id"], "name": each["name"]} for each in (google, github, work)]
    assert page.keys() == {"apiBase", "providers", "version"}


def test_what_the_endpoint_of_traces_is_told_stands_in_a_parameter_that_the_task_alone_reads() -> None:
    registrations = configured("watched").registrations
    parameter = registrations.one("ssm/parameter:Parameter", "data-traces-headers").inputs
    assert (parameter["type"], parameter["value"]) == ("SecureString", TRACES_HEADERS)
    holding = [each.name for each in registrations if TRACES_HEADERS in json.dumps(each.inputs, default=str)]
    assert holding == ["data-traces-headers"]
    (task,) = json.loads(registrations.one(":TaskDefinition").inputs["containerDefinitions"])
    told = {pair["name"]: pair["value"] for pair in task["environment"]}
    assert told["DIOGENES_TRACES_ENDPOINT"] == "https://otlp.example.org/v1/traces"
    assert told["DIOGENES_TRACES_HEADERS_PARAMETER"] == "/diogenes-desk/traces-headers"
    reading = [each.name for each in registrations.of(":RolePolicy") if "ReadTracesHeaders" in json.dumps(each.inputs)]
    assert len(reading) == 1
    assert "task" in reading[0]


def test_headers_without_an_endpoint_are_kept_nowhere() -> None:
    registrations = ran(tracesHeaders=TRACES_HEADERS).registrations
    assert TRACES_HEADERS not in json.dumps([each.inputs for each in registrations], default=str)


def test_the_secret_at_github_stands_in_a_parameter_and_nowhere_else() -> None:
    registrations = configured("with sign-in").registrations
    parameter = registrations.one("ssm/parameter:Parameter", "data-github-client-secret").inputs
    assert (parameter["type"], parameter["value"]) == ("SecureString", GITHUB_SECRET)
    holding = [each.name for each in registrations if GITHUB_SECRET in json.dumps(each.inputs, default=str)]
    assert holding == ["data-github-client-secret"]


def test_the_webhook_and_its_key_stand_in_parameters_and_nowhere_else() -> None:
    registrations = configured("with notices").registrations
    webhook = registrations.one("ssm/parameter:Parameter", "data-notification-webhook").inputs
    assert (webhook["type"], webhook["value"]) == ("SecureString", WEBHOOK)
    holding = [each.name for each in registrations if WEBHOOK in json.dumps(each.inputs, default=str)]
    assert holding == ["data-notification-webhook"]
    key = registrations.one("ssm/parameter:Parameter", "data-notification-key").inputs
    assert key["type"] == "SecureString"
    assert len(base64.b64decode(key["value"], validate=True)) == 48
    assert signature(key["value"], "id", "1", b"{}").startswith("v1,")


def test_where_the_web_app_is_stands_beside_them(registrations: Registrations) -> None:
    parameter = registrations.one("ssm/parameter:Parameter", "data-web-url").inputs
    assert parameter["value"].startswith("https://")


def test_the_session_key_is_long_and_random(registrations: Registrations) -> None:
    asked = [told for token, told in configured("as published").recorder.asked if token.endswith("getRandomPassword")]
    assert [told["passwordLength"] for told in asked] == [64]
    assert len(registrations.one("ssm/parameter:Parameter", "data-session-key").inputs["value"]) == 64


def test_the_owner_hears_of_the_months_costs_at_80_and_at_100_percent(registrations: Registrations) -> None:
    budget = registrations.one(":Budget").inputs
    assert (budget["limitAmount"], budget["limitUnit"], budget["timeUnit"]) == ("100", "USD", "MONTHLY")
    assert "costFilters" not in budget
    assert [told["threshold"] for told in budget["notifications"]] == [80, 100]
    assert all(told["subscriberEmailAddresses"] == ["me@example.com"] for told in budget["notifications"])
