"""What the operator configured for the whole deployment: the stack's configuration, checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from control_plane.configuration import Problem, Values, in_order, remove, set_path, set_value
from control_plane.geometry import ReadGeometry
from control_plane.lineup import line_up
from control_plane.model import Model

SETTINGS = frozenset(
    {
        "models",
        "allowedEmails",
        "googleClientId",
        "oidcProviders",
        "keysOnly",
        "edge",
        "domain",
        "certificateArn",
        "hostedZoneId",
        "zones",
        "architecture",
        "cpu",
        "memory",
        "controlPlaneIdleTimeout",
        "logRetentionDays",
        "amiId",
        "rootVolumeGb",
        "monthlyBudgetUsd",
        "hfToken",
    }
)
"""Every setting of a stack, as ``Pulumi.yaml`` has them, and the one secret."""

MAX_NAMESPACE_CHARS = 24  # a target group's name has 32 to give, and "-control" takes 8

_EDGE_REGION = "us-east-1"  # CloudFront takes certificates from there alone

_MEMORY_OF_CPU: Mapping[int, Sequence[int]] = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
}
"""What Fargate allows, MiB."""

_LOG_RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
"""What CloudWatch allows."""

_HOST = r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}"
_EMAIL = re.compile(rf"([^@\s*,]+|\*)@{_HOST}", re.IGNORECASE)
_ISSUER = re.compile(r"https://[^\s/?#@]+\.[^\s/?#@]+(/[^\s?#]*)?")


class Edge(StrEnum):
    """Who terminates TLS for API clients."""

    CLOUDFRONT = "cloudfront"  # CloudFront in front of an internal load balancer
    PUBLIC = "public"  # an internet-facing load balancer under the operator's own domain


@dataclass(frozen=True)
class OidcProvider:
    """One issuer of ID tokens besides Google."""

    name: str
    issuer: str  # https URL
    client_id: str


class InvalidDeployment(ValueError):
    """The configuration cannot be deployed; ``problems`` lists everything, each with the line that mends it."""

    def __init__(self, found: Sequence[Problem]) -> None:
        self.found = in_order(found)
        self.problems = [str(problem) for problem in self.found]
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Deployment:
    """A stack's configuration. Secrets are not here: the program hands them to SSM unread."""

    namespace: str  # "<project>-<stack>"; prefix of every name, value of the `diogenes` tag
    region: str
    models: Sequence[Model]
    allowed_emails: Sequence[str]  # the first is the owner
    google_client_id: str | None = None
    oidc_providers: Sequence[OidcProvider] = ()
    edge: Edge = Edge.CLOUDFRONT
    domain: str | None = None
    certificate_arn: str | None = None
    hosted_zone_id: str | None = None
    zones: int = 3  # Availability Zones to use, where the region has so many
    architecture: str = "arm64"  # of the image: arm64 or amd64
    cpu: int = 512  # of the Fargate task, in 1/1024 vCPU
    memory: int = 1024  # of the Fargate task, MiB
    control_plane_idle_timeout_s: int = 600
    log_retention_days: int = 14
    ami_id: str | None = None  # None: the newest Deep Learning AMI
    root_volume_gb: int = 100
    monthly_budget_usd: int = 100
    notes: Sequence[str] = ()  # what could not be checked, and why

    @classmethod
    def parse(
        cls,
        config: Mapping[str, Any],
        *,
        project: str,
        stack: str,
        region: str | None,
        read_geometry: ReadGeometry,
        hf_token_in_clear: bool = False,
    ) -> Deployment:
        """From the stack's values by their names in ``Pulumi.yaml`` without the project's, in their types or as text.

        ``hf_token_in_clear``: hfToken is set, but not as a secret. Raises InvalidDeployment with every problem.
        """
        values = Values(config)
        _check_names(values, config)
        lineup = line_up(values.items("models", example="[0].name Qwen/Qwen3-14B-AWQ"), read_geometry)
        values.problems += lineup.problems
        if hf_token_in_clear:
            mend = "pulumi config rm hfToken && pulumi config set --secret hfToken"
            values.refuse(
                "hfToken is stored in clear; make a new token, since this one may be in your repository", mend
            )
        deployment = cls(
            namespace=_namespace(values, project, stack),
            region=_region(values, region),
            models=tuple(lineup.models),
            **_sign_in(values),
            **_edge(values, region),
            **_control_plane(values),
            **_nodes(values),
            notes=tuple(lineup.notes),
        )
        if values.problems:
            raise InvalidDeployment(values.problems)
        return deployment


def _check_names(values: Values, config: Mapping[str, Any]) -> None:
    for name in sorted(set(config) - SETTINGS):
        values.refuse(f"{name} is not a setting of Diogenes", remove(name))


def _namespace(values: Values, project: str, stack: str) -> str:
    name = f"{project}-{stack}"
    if len(name) > MAX_NAMESPACE_CHARS or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        what = f"{name} cannot begin the names of AWS resources: at most {MAX_NAMESPACE_CHARS} of a-z, 0-9 and -"
        values.refuse(what, "pulumi stack rename prod")
    return name


def _region(values: Values, region: str | None) -> str:
    if region and re.fullmatch(r"[a-z]{2,3}(-[a-z]+)+-\d", region):
        return region
    what = f"{region!r} is not an AWS region" if region else "no AWS region is set"
    values.refuse(what, f"pulumi config set aws:region {_EDGE_REGION}")
    return ""


# -- who may come in ------------------------------------------------------------------------------------------------


def _sign_in(values: Values) -> dict[str, Any]:
    emails = _emails(values)
    google = values.text(
        "googleClientId",
        pattern=r"[A-Za-z0-9_-]+\.apps\.googleusercontent\.com",
        example="1234-abc.apps.googleusercontent.com",
    )
    items = values.items("oidcProviders", example="[0].name example")
    providers = tuple(_provider(values, place, item) for place, item in enumerate(items))
    names = [provider.name for provider in providers]
    for place, name in enumerate(names):
        if name in names[:place]:
            values.refuse(f"oidcProviders[{place}] has the name of another, {name}", remove(f"oidcProviders[{place}]"))
    if not values.flag("keysOnly") and not google and not items and not values.is_set("googleClientId"):
        what = "nobody could sign in: there is no googleClientId, no oidcProviders, and keysOnly is not set"
        values.refuse(what, set_value("keysOnly", "true") + "  # or set googleClientId, or oidcProviders")
    return {"allowed_emails": emails, "google_client_id": google, "oidc_providers": providers}


def _emails(values: Values) -> Sequence[str]:
    emails = values.items("allowedEmails", example="[0] you@example.org")
    for place, email in enumerate(emails):
        if not isinstance(email, str) or not _EMAIL.fullmatch(email):
            what = f"allowedEmails[{place}] is {email!r}, which is no address and no *@domain"
            values.refuse(what, set_path(f"allowedEmails[{place}]", "you@example.org"))
    if not emails:
        values.refuse("allowedEmails is empty: who is the owner?", set_path("allowedEmails[0]", "you@example.org"))
    elif str(emails[0]).startswith("*"):
        what = f"allowedEmails[0] is {emails[0]}, and the first must be one person: the owner, who gets the alerts"
        values.refuse(what, f"{set_path('allowedEmails[0]', 'you@example.org')}")
    return tuple(str(email) for email in emails)


def _provider(values: Values, place: int, item: object) -> OidcProvider:
    path = f"oidcProviders[{place}]"
    if not isinstance(item, Mapping):
        values.refuse(f"{path} is {item!r}, and must be an object of name, issuer and clientId", remove(path))
        return OidcProvider("", "", "")
    for key in sorted(set(item) - {"name", "issuer", "clientId"}):
        values.refuse(f"{path} has no setting {key!r}", remove(f"{path}.{key}"))
    name, issuer, client = item.get("name"), item.get("issuer"), item.get("clientId")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}", name):
        values.refuse(f"{path}.name is {name!r}, which is no name", set_path(f"{path}.name", "example"))
    if not isinstance(issuer, str) or not _ISSUER.fullmatch(issuer):
        what = f"{path}.issuer is {issuer!r}, which is not an https URL"
        values.refuse(what, set_path(f"{path}.issuer", "https://login.example.org"))
    if not isinstance(client, str) or not client.strip():
        what = f"{path}.clientId is {client!r}, and must be what the issuer knows Diogenes by"
        values.refuse(what, set_path(f"{path}.clientId", "diogenes"))
    return OidcProvider(str(name), str(issuer), str(client))


# -- where clients come in ------------------------------------------------------------------------------------------


def _edge(values: Values, region: str | None) -> dict[str, Any]:
    edge = Edge(values.choice("edge", [str(member) for member in Edge], default=Edge.CLOUDFRONT))
    home = region if edge is Edge.PUBLIC and region else _EDGE_REGION
    certificate_example = f"arn:aws:acm:{home}:123456789012:certificate/<id>"
    domain = values.text("domain", pattern=_HOST, example="llm.example.org")
    certificate = values.text(
        "certificateArn",
        pattern=r"arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/[A-Za-z0-9-]+",
        example=certificate_example,
    )
    zone = values.text("hostedZoneId", pattern=r"Z[A-Z0-9]{5,31}", example="Z0123456789ABC")
    if edge is Edge.PUBLIC and not values.is_set("domain"):
        values.refuse("edge public wants a domain of your own", set_value("domain", "llm.example.org"))
    if (edge is Edge.PUBLIC or values.is_set("domain")) and not values.is_set("certificateArn"):
        what = f"{domain or 'the domain'} wants a certificate, in {home}"
        values.refuse(what, set_value("certificateArn", certificate_example))
    if edge is Edge.CLOUDFRONT and not values.is_set("domain"):
        for name in ("certificateArn", "hostedZoneId"):
            if values.is_set(name):
                values.refuse(f"{name} is of no use without a domain", remove(name))
    if certificate and certificate.split(":")[3] != home:
        what = f"the certificate is in {certificate.split(':')[3]}, and edge {edge} takes one from {home} only"
        values.refuse(what, set_value("certificateArn", certificate_example))
    return {"edge": edge, "domain": domain, "certificate_arn": certificate, "hosted_zone_id": zone}


# -- what runs ------------------------------------------------------------------------------------------------------


def _control_plane(values: Values) -> dict[str, Any]:
    cpu = values.integer("cpu", tuple(_MEMORY_OF_CPU), default=Deployment.cpu, unit="1/1024 vCPU")
    memory = values.integer("memory", range(512, 16385), default=Deployment.memory, unit="MiB")
    allowed = _MEMORY_OF_CPU[cpu]
    if memory not in allowed:
        nearest = min(allowed, key=lambda size: abs(size - memory))
        what = f"Fargate has no task with cpu {cpu} and memory {memory}: it allows {', '.join(map(str, allowed))}"
        values.refuse(what, set_value("memory", nearest))
    return {
        "cpu": cpu,
        "memory": memory,
        "architecture": values.choice("architecture", ("arm64", "amd64"), default=Deployment.architecture),
        "zones": values.integer("zones", range(2, 7), default=Deployment.zones, unit="zones"),
        "control_plane_idle_timeout_s": values.integer(
            "controlPlaneIdleTimeout",
            range(60, 86401),
            default=Deployment.control_plane_idle_timeout_s,
            unit="seconds",
        ),
        "log_retention_days": values.integer(
            "logRetentionDays", _LOG_RETENTION_DAYS, default=Deployment.log_retention_days, unit="days"
        ),
        "monthly_budget_usd": values.integer(
            "monthlyBudgetUsd", range(1, 1_000_001), default=Deployment.monthly_budget_usd, unit="US dollars"
        ),
    }


def _nodes(values: Values) -> dict[str, Any]:
    return {
        "ami_id": values.text("amiId", pattern=r"ami-([0-9a-f]{8}|[0-9a-f]{17})", example="ami-0123456789abcdef0"),
        "root_volume_gb": values.integer(
            "rootVolumeGb", range(75, 16385), default=Deployment.root_volume_gb, unit="GB"
        ),  # the Deep Learning AMI alone takes 75
    }
