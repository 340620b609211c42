"""What the operator configured for the whole deployment: the stack's configuration, checked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from control_plane.fit import Geometry
from control_plane.model import Model

ReadGeometry = Callable[[str, str | None], Geometry | None]
"""A repository and its revision to what its ``config.json`` tells; None where it cannot be read."""


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

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


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
        cls, config: Mapping[str, Any], *, project: str, stack: str, region: str | None, read_geometry: ReadGeometry
    ) -> Deployment:
        """From the values of the stack, by their names in ``Pulumi.yaml`` without the project's. Raises InvalidDeployment."""
        raise NotImplementedError
