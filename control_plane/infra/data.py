"""What must outlive every task and node: the tables, the models' rows, the parameters; and the budget's alarm."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from control_plane import schema
from control_plane.deployment import Deployment
from control_plane.model import Model, slug
from control_plane.schema import TAG
from gpu_node.protocol import to_attributes

GOOGLE = {"id": "google", "name": "Google", "issuer": "https://accounts.google.com"}
GITHUB = {
    "id": "github",
    "name": "GitHub",
    "flow": "github",
    "authorizeUrl": "https://github.com/login/oauth/authorize",
    "tokenUrl": "https://github.com/login/oauth/access_token",
    "emailsUrl": "https://api.github.com/user/emails",
}

ALERT_PERCENT = (80, 100)

_KEY_CHARS = 64


class Data(pulumi.ComponentResource):
    """Tables on demand with point-in-time recovery, rows of ``models``, parameters, and a budget that tells the owner.

    A model's row here holds its name and its configuration; what the UI changed and what was learnt of its starts
    stands in a row of its own, which no `pulumi up` sees.
    """

    def __init__(
        self,
        name: str,
        *,
        deployment: Deployment,
        hf_token: pulumi.Output[str] | None,
        github_secret: pulumi.Output[str] | None,
        webhook: pulumi.Output[str] | None,
        traces_headers: pulumi.Output[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("diogenes:control_plane:Data", name, {}, opts)
        self._name = name
        self._tags = {TAG: deployment.namespace}
        self._child = pulumi.ResourceOptions(parent=self)
        self._namespace = deployment.namespace

        self.tables: Mapping[str, aws.dynamodb.Table] = {
            table.name: self._make_table(deployment.namespace, table) for table in schema.TABLES
        }
        for place, model in enumerate(deployment.models):
            self._make_row(model, place)
        self.allowed_emails_parameter = self._parameter(
            schema.ALLOWED_EMAILS,
            "StringList",
            ",".join(deployment.allowed_emails),
            "Who may sign in; the first is the owner",
        )
        self.oidc_clients_parameter = self._parameter(
            schema.OIDC_CLIENTS, "String", json.dumps(sign_ins(deployment)), "Whose ID tokens are taken, and for whom"
        )
        self.session_key_parameter = self._make_key(schema.SESSION_KEY, "Seals the cookies of web sessions")
        self.hf_token_parameter = (
            self._parameter("hf-token", "SecureString", hf_token, "Read by GPU nodes and by what launches them")
            if hf_token
            else None
        )
        if github_secret:
            self._parameter(schema.GITHUB_SECRET, "SecureString", github_secret, "Of the OAuth app at GitHub")
        self.webhook_parameters = self._make_webhook(webhook) if webhook else []
        self.traces_headers_parameter = (
            self._parameter("traces-headers", "SecureString", traces_headers, "Told to the endpoint of traces")
            if traces_headers and deployment.telemetry.traces_endpoint
            else None
        )
        self._make_budget(deployment)

        self.hf_token_parameter_arn = self.hf_token_parameter.arn if self.hf_token_parameter else None
        self.hf_token_parameter_name = self.hf_token_parameter.name if self.hf_token_parameter else None
        self.register_outputs({"tables": {key: table.name for key, table in self.tables.items()}})

    def _make_table(self, namespace: str, table: schema.Table) -> aws.dynamodb.Table:
        keys = [table.hash_key, table.range_key] if table.range_key else [table.hash_key]
        return aws.dynamodb.Table(
            f"{self._name}-{table.name}",
            name=table.full_name(namespace),
            billing_mode="PAY_PER_REQUEST",
            hash_key=table.hash_key,
            range_key=table.range_key,
            attributes=[aws.dynamodb.TableAttributeArgs(name=key, type="S") for key in keys],
            ttl=aws.dynamodb.TableTtlArgs(attribute_name=table.ttl, enabled=True) if table.ttl else None,
            point_in_time_recovery=aws.dynamodb.TablePointInTimeRecoveryArgs(enabled=True),
            deletion_protection_enabled=False,  # `pulumi destroy` leaves nothing behind
            tags=self._tags,
            opts=self._child,
        )

    def _make_row(self, model: Model, place: int) -> None:
        table = self.tables[schema.MODELS.name]
        row = {schema.MODELS.hash_key: schema.CONFIGURED + model.name, "config": model.config, "place": place}
        aws.dynamodb.TableItem(
            f"{self._name}-model-{slug(model.name)}",
            table_name=table.name,
            hash_key=schema.MODELS.hash_key,
            item=json.dumps(to_attributes(row), sort_keys=True),
            opts=self._child,
        )

    def _make_key(self, key: str, description: str) -> aws.ssm.Parameter:
        # AWS makes the secret, a new one at every run; the first stays, since the value's changes are ignored.
        made = aws.secretsmanager.get_random_password_output(password_length=_KEY_CHARS, exclude_punctuation=True)
        secret = pulumi.Output.secret(made.random_password)
        return self._parameter(key, "SecureString", secret, description, ignore_changes=["value"])

    def _make_webhook(self, url: pulumi.Output[str]) -> Sequence[aws.ssm.Parameter]:
        """Where it is, then what signs: letters and digits, so base64 of some 48 bytes."""
        return [
            self._parameter(schema.NOTIFICATION_WEBHOOK, "SecureString", url, "Where notices go as JSON"),
            self._make_key(schema.NOTIFICATION_KEY, "Signs notices, as base64"),
        ]

    def keep_web_url(self, url: pulumi.Input[str]) -> None:
        """Where the web app is: sign-ins come back there, and what changes something comes from there alone."""
        self._parameter(schema.WEB_URL, "String", url, "Where the web app is")

    def _parameter(
        self,
        key: str,
        kind: str,
        value: pulumi.Input[str],
        description: str,
        *,
        ignore_changes: list[str] | None = None,
    ) -> aws.ssm.Parameter:
        return aws.ssm.Parameter(
            f"{self._name}-{key}",
            name=schema.parameter_name(self._namespace, key),
            type=kind,
            value=value,
            description=description,
            tags=self._tags,
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=ignore_changes),
        )

    def _make_budget(self, deployment: Deployment) -> None:
        aws.budgets.Budget(
            f"{self._name}-budget",
            name=deployment.namespace,
            budget_type="COST",
            limit_amount=f"{deployment.monthly_budget_usd}",
            limit_unit="USD",
            time_unit="MONTHLY",
            notifications=[
                aws.budgets.BudgetNotificationArgs(
                    comparison_operator="GREATER_THAN",
                    notification_type="ACTUAL",
                    threshold=percent,
                    threshold_type="PERCENTAGE",
                    subscriber_email_addresses=[deployment.allowed_emails[0]],
                )
                for percent in ALERT_PERCENT
            ],
            tags=self._tags,
            opts=self._child,
        )


def sign_ins(deployment: Deployment) -> Sequence[Mapping[str, Any]]:
    """The ways to sign in, Google first: OIDC issuers, with the client that their tokens must be for; GitHub."""
    google = [{**GOOGLE, "clientId": deployment.google_client_id}] if deployment.google_client_id else []
    github = [{**GITHUB, "clientId": deployment.github_client_id}] if deployment.github_client_id else []
    others = [
        {"id": slug(provider.name), "name": provider.name, "issuer": provider.issuer, "clientId": provider.client_id}
        for provider in deployment.oidc_providers
    ]
    return google + github + others
