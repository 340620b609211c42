"""What the operator configured for the whole deployment: the stack's configuration, checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from control_plane import budget_settings, node_settings, notification_settings, telemetry_settings
from control_plane.addresses import HOST, InvalidAddress, fold_entry
from control_plane.configuration import Blank, Problem, Values, in_order, remove, set_path, set_value
from control_plane.geometry import ReadGeometry
from control_plane.lineup import line_up
from control_plane.model import Model, slug
from control_plane.prices import prices
from control_plane.quotas import NEW_EXECUTIONS

SECRETS = ("hfToken", "githubClientSecret", notification_settings.WEBHOOK, telemetry_settings.HEADERS)

SETTINGS = frozenset(
    {
        "models",
        "allowedEmails",
        "googleClientId",
        "githubClientId",
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
        "lambdaConcurrency",
        "logRetentionDays",
        *(node_settings.NAMES + budget_settings.NAMES + notification_settings.NAMES),
        *(telemetry_settings.NAMES + SECRETS),
    }
)
"""Every setting of a stack, as ``Pulumi.yaml`` has them, and the secrets."""

MAX_NAMESPACE_CHARS = 24  # a target group's name has 32 to give, and "-control" takes 8

MAX_EMAILS_CHARS = 4096
"""Of all addresses, joined by commas: they are one parameter of SSM's standard tier."""

PLACEHOLDER_OWNER = "you@example.com"
"""The owner in the published ``Pulumi.prod.yaml``, to be replaced by whoever deploys it."""

_EDGE_REGION = "us-east-1"  # CloudFront takes certificates from there alone

_REGION = re.compile(r"(?!cn-)[a-z]{2}-(central|(north|south)(east|west)?|east|west)-[1-9]")
_OTHER_PARTITION = re.compile(r"(cn|us-gov|us-iso[a-z]?|eu-iso[a-z]?|eusc)-[a-z-]+-[1-9]")

_YOUR_ADDRESS = Blank("your address")  # an example that is sound would send the alerts to a stranger

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

_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
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
    github_client_id: str | None = None
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
    lambda_concurrency: int = NEW_EXECUTIONS  # of the account's, that it may count on
    log_retention_days: int = 14
    ami_id: str | None = None  # None: the newest Deep Learning AMI
    root_volume_gb: int = node_settings.ROOT_VOLUME_GB
    root_volume_mib_s: int = node_settings.ROOT_VOLUME_MIB_S  # what it carries
    engine: str = "install"  # how a node comes by its engine: install or container
    engine_image: str | None = None  # of the container; None: the makers' of the pinned version
    bake_image: bool = False  # a pipeline that bakes the engine into the nodes' image
    monthly_budget_usd: int = budget_settings.MONTHLY_USD  # of Diogenes' machines
    user_monthly_budget_usd: int = budget_settings.MONTHLY_USD  # of each person
    speculative_budget_usd: int = budget_settings.SPECULATIVE_USD
    budget_hard_cap_percent: int = budget_settings.HARD_CAP_PERCENT
    notification_emails: Sequence[str] = ()  # besides the owner's
    telemetry: telemetry_settings.Telemetry = telemetry_settings.NONE
    notes: Sequence[str] = ()  # whose prices are told if not the region's; what could not be checked, and why

    @classmethod
    def parse(
        cls,
        config: Mapping[str, Any],
        *,
        project: str,
        stack: str,
        region: str | None,
        read_geometry: ReadGeometry,
        in_clear: Collection[str] = (),
        github_secret: bool = False,
    ) -> Deployment:
        """From the stack's values by their names in ``Pulumi.yaml`` without the project's, in their types or as text.

        ``in_clear``: secrets that are set, but not as secrets; ``github_secret``: that one is set. Raises
        InvalidDeployment with every problem.
        """
        values = Values(config)
        for name in sorted(set(config) - SETTINGS):
            values.refuse(f"{name} is not a setting of Diogenes", remove(name))
        lineup = line_up(values.items("models", first="[0].name", example="Qwen/Qwen3-14B-AWQ"), read_geometry)
        values.problems += lineup.problems
        for name in in_clear:
            what = f"{name} is stored in clear; make a new one, since this one may be in your repository"
            values.refuse(what, f"pulumi config rm {name} && pulumi config set --secret {name}")
        namespace = _namespace(values, project, stack)
        home = _region(values, region)
        deployment = cls(
            namespace=namespace,
            region=home,
            models=tuple(lineup.models),
            **_sign_in(values, github_secret=github_secret),
            **_edge(values, home),
            **_control_plane(values),
            **node_settings.read(values),
            telemetry=telemetry_settings.read(values),
            notes=(*_price_notes(home), *lineup.notes),
        )
        if values.problems:
            raise InvalidDeployment(values.problems)
        return deployment


def _namespace(values: Values, project: str, stack: str) -> str:
    name = f"{project}-{stack}"
    if len(name) > MAX_NAMESPACE_CHARS or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        what = f"{name} cannot begin the names of AWS resources: at most {MAX_NAMESPACE_CHARS} of a-z, 0-9 and -"
        values.refuse(what, "pulumi stack rename prod")
    return name


def _region(values: Values, region: str | None) -> str:
    """Empty when it is refused."""
    if region and _REGION.fullmatch(region):
        return region
    what = f"{region!r} is not an AWS region" if region else "no AWS region is set"
    if region and _OTHER_PARTITION.fullmatch(region):
        what = f"{region} is in a partition of AWS apart, and every policy of Diogenes says arn:aws"
    values.refuse(what, f"pulumi config set aws:region {_EDGE_REGION}")
    return ""


def _price_notes(region: str) -> Sequence[str]:
    listed = prices().region
    return () if region == listed else (f"all prices and costs told are list prices of {listed}, not of {region}",)


# -- who may come in ------------------------------------------------------------------------------------------------


def _sign_in(values: Values, *, github_secret: bool) -> dict[str, Any]:
    emails = _emails(values)
    google = values.text(
        "googleClientId",
        pattern=r"[A-Za-z0-9_-]+\.apps\.googleusercontent\.com",
        example="1234-abc.apps.googleusercontent.com",
    )
    github = values.text("githubClientId", pattern=r"[A-Za-z0-9._-]{8,64}", example="Iv1.0123456789abcdef")
    if values.is_set("githubClientId") and not github_secret:
        values.refuse(
            "githubClientId is set without the secret of that OAuth app",
            "pulumi config set --secret githubClientSecret",
        )
    providers = _providers(values)
    ways = ("googleClientId", "githubClientId")
    if not values.flag("keysOnly") and not providers and not any(values.is_set(way) for way in ways):
        what = f"nobody could sign in: there is no {', no '.join(ways)}, no oidcProviders, and keysOnly is not set"
        values.refuse(what, set_value("keysOnly", "true") + "  # or set googleClientId, or oidcProviders")
    return {
        "allowed_emails": emails,
        "google_client_id": google,
        "github_client_id": github,
        "oidc_providers": providers,
    }


def _providers(values: Values) -> Sequence[OidcProvider]:
    items = values.items("oidcProviders", first="[0].name", example="example")
    providers = tuple(_provider(values, place, item) for place, item in enumerate(items))
    taken = {name for name in ("google", "github") if values.is_set(f"{name}ClientId")}
    for place, provider in enumerate(providers):
        name = slug(provider.name)
        if provider.name and name in taken:
            what = f"oidcProviders[{place}] has the name of another sign-in, {provider.name}"
            values.refuse(what, remove(f"oidcProviders[{place}]"))
        taken.add(name)
    return providers


def _emails(values: Values) -> Sequence[str]:
    items = values.items("allowedEmails", first="[0]", example=_YOUR_ADDRESS)
    seen: set[str] = set()
    if not items:
        values.refuse("allowedEmails is empty: who is the owner?", set_path("allowedEmails[0]", _YOUR_ADDRESS))
    for place, item in enumerate(items):
        path = f"allowedEmails[{place}]"
        if not isinstance(item, str) or not _is_entry(item):
            what = f"{path} is {item!r}, which is no address and no *@domain"
            values.refuse(what, set_path(path, _YOUR_ADDRESS))
        elif place == 0 and (trouble := _owner_trouble(item)):
            values.refuse(f"{path} is {item}, {trouble}", set_path(path, _YOUR_ADDRESS))
        elif item.casefold() in seen:
            values.refuse(f"{path} is {item}, which is in the list already", remove(path))
        seen.add(str(item).casefold())
    emails = [str(item) for item in items]
    if len(seen) == len(items):  # else the lines that take away repetitions would miss their places
        _check_length(values, emails)
    return tuple(emails)


def _is_entry(item: str) -> bool:
    try:
        fold_entry(item)
    except InvalidAddress:
        return False
    return True


def _owner_trouble(email: str) -> str | None:
    if email.startswith("*"):
        return "and the first must be one person: the owner, who gets the alerts"
    return "a placeholder: alerts would go to a stranger" if email.casefold() == PLACEHOLDER_OWNER else None


def _check_length(values: Values, emails: Sequence[str]) -> None:
    joined = ",".join(emails)
    if len(joined) <= MAX_EMAILS_CHARS:
        return
    room = joined[: MAX_EMAILS_CHARS + 1].count(",")  # each comma within ends an address that has room
    surplus = reversed(range(room, len(emails)))
    what = (
        f"allowedEmails has {len(joined):,} characters, commas included, and {MAX_EMAILS_CHARS:,} can be kept: "
        "let *@<domain> stand for many, or do without the last"
    )
    values.refuse(what, " && ".join(remove(f"allowedEmails[{place}]") for place in surplus))


def _provider(values: Values, place: int, item: object) -> OidcProvider:
    path = f"oidcProviders[{place}]"
    if not isinstance(item, Mapping):
        values.refuse(f"{path} is {item!r}, and must be an object of name, issuer and clientId", remove(path))
        return OidcProvider("", "", "")  # a name that is refused is nobody's
    for key in sorted(set(item) - {"name", "issuer", "clientId"}):
        values.refuse(f"{path} has no setting {key!r}", remove(f"{path}.{key}"))
    name, issuer, client = item.get("name"), item.get("issuer"), item.get("clientId")
    sound = name if isinstance(name, str) and _PROVIDER_NAME.fullmatch(name) else ""
    if not sound:
        values.refuse(f"{path}.name is {name!r}, which is no name", set_path(f"{path}.name", "example"))
    if not isinstance(issuer, str) or not _ISSUER.fullmatch(issuer):
        what = f"{path}.issuer is {issuer!r}, which is not an https URL"
        values.refuse(what, set_path(f"{path}.issuer", "https://login.example.org"))
    if not isinstance(client, str) or not client.strip():
        what = f"{path}.clientId is {client!r}, and must be what the issuer knows Diogenes by"
        values.refuse(what, set_path(f"{path}.clientId", "diogenes"))
    return OidcProvider(sound, str(issuer), str(client))


# -- where clients come in ------------------------------------------------------------------------------------------


def _edge(values: Values, region: str) -> dict[str, Any]:
    edge = Edge(values.choice("edge", [str(member) for member in Edge], default=Edge.CLOUDFRONT))
    home = region if edge is Edge.PUBLIC and region else _EDGE_REGION
    certificate_example = f"arn:aws:acm:{home}:123456789012:certificate/<id>"
    domain = values.text("domain", pattern=f"(?ai:{HOST})", example="llm.example.org")
    certificate = values.text(
        "certificateArn",
        pattern=r"arn:aws:acm:[a-z0-9-]+:\d{12}:certificate/[A-Za-z0-9-]+",
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
    return {"edge": edge, "domain": domain and domain.lower(), "certificate_arn": certificate, "hosted_zone_id": zone}


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
        "lambda_concurrency": values.integer(
            "lambdaConcurrency",
            range(NEW_EXECUTIONS, 100_001),
            default=Deployment.lambda_concurrency,
            unit="executions",
        ),
        "log_retention_days": values.integer(
            "logRetentionDays", _LOG_RETENTION_DAYS, default=Deployment.log_retention_days, unit="days"
        ),
        **budget_settings.read(values),
        **notification_settings.read(values),
    }
