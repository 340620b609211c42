"""The DynamoDB tables: keys and expiry. One description for the adapter, the Pulumi program and the rehearsal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """One table, on demand. Keys are strings; ``ttl`` names the attribute of Unix seconds after which a row goes."""

    name: str  # without the namespace
    hash_key: str
    range_key: str | None = None
    ttl: str | None = None

    def full_name(self, namespace: str) -> str:
        return f"{namespace}-{self.name}"


INSTANCES = Table("instances", "instance_id", ttl="expires_at")
MODELS = Table("models", "name")
API_KEYS = Table("api-keys", "key_hash", ttl="expires_at")
USAGE = Table("usage", "owner_month", "day_model")
CONTROL = Table("control", "item", ttl="expires_at")
EVENTS = Table("events", "page", "entry", ttl="expires_at")
SESSIONS = Table("sessions", "id_hash", ttl="expires_at")

TABLES = (INSTANCES, MODELS, API_KEYS, USAGE, CONTROL, EVENTS, SESSIONS)

CONFIGURED = "pulumi#"
"""Before a model's name: the key of the row of ``models`` that Pulumi writes, and nobody else. The AWS provider takes
the whole row for its own and deletes what it did not write, so what is learnt of a model stands in a row beside it."""

ALLOWED_EMAILS = "allowed-emails"
OIDC_CLIENTS = "oidc-clients"
SESSION_KEY = "session-key"
GITHUB_SECRET = "github-client-secret"  # noqa: S105 - a name
WEB_URL = "web-url"
NOTIFICATION_WEBHOOK = "notification-webhook"
NOTIFICATION_KEY = "notification-key"

ENTRANCE = (ALLOWED_EMAILS, OIDC_CLIENTS, SESSION_KEY, GITHUB_SECRET, WEB_URL)
"""Parameters of SSM, below the namespace: who may come in, and by which way. Read by who answers requests."""

TAG = "diogenes"
"""Every resource carries this tag with the namespace as value; permissions and the janitor go by it."""

MODEL_TAG = "diogenes:model"
"""On an Auto Scaling group: the name of its model."""

MARKET_TAG = "diogenes:market"
"""On an Auto Scaling group: ``on-demand`` or ``spot``."""

EXCLUDED_ZONE_IDS = ("use1-az3", "usw1-az2", "cac1-az3", "apne1-az3", "apne2-az1")
"""Availability Zones that CloudFront's VPC origins do not reach, and that are therefore not used at all."""

FRONT_ZONES = 2
"""Zones of the load balancer, and so of the task behind it: as few as AWS allows, so that a zone more for the GPUs
never touches a load balancer that a CDN points to."""

CALLBACK_PATH = "/signin"
"""Where a sign-in provider sends the browser back to: a page of the web app."""

GROUP_MAX_SIZE = 9
"""MaxSize of every group: room for the most nodes a model may have, and for a replacement while one drains. What is
really wanted is the reconciler's to say; this bounds what a fault of ours could cost."""


def parameter_name(namespace: str, parameter: str) -> str:
    """Its name in SSM."""
    return f"/{namespace}/{parameter}"


def group_name(namespace: str, model_slug: str, market: str) -> str:
    """The Auto Scaling group of one model on one market."""
    return f"{namespace}-{model_slug}-{market}"
