"""The edge alone, as the program would make it: each kind of it, with and without a domain and a zone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pulumi import Output

from tests.infra.component import Registration, Registrations, run_component
from web.infra import Web

NAMESPACE = "diogenes-test"
LOAD_BALANCER = "arn:aws:elasticloadbalancing:us-east-1:111122223333:loadbalancer/app/diogenes-test/50dc6c495c0c9188"
LOAD_BALANCER_NAME = "internal-diogenes-test-1234567890.us-east-1.elb.amazonaws.com"
LOAD_BALANCER_ZONE = "Z35SXDOTRQ7X7K"
CERTIFICATE = "arn:aws:acm:us-east-1:111122223333:certificate/12345678-1234-1234-1234-123456789012"
CDN_NAME = "d111111abcdef8.cloudfront.net"
DOMAIN = "llm.example.org"

PRIVATE: Mapping[str, Any] = {"edge": "cloudfront"}
PRIVATE_DOMAIN = {**PRIVATE, "domain": DOMAIN, "certificate_arn": CERTIFICATE}
PRIVATE_ZONE = {**PRIVATE_DOMAIN, "hosted_zone_id": "Z0HOSTED"}
PUBLIC: Mapping[str, Any] = {"edge": "public", "domain": DOMAIN, "certificate_arn": CERTIFICATE}
PUBLIC_ZONE = {**PUBLIC, "hosted_zone_id": "Z0HOSTED", "load_balancer_zone_id": LOAD_BALANCER_ZONE}

every_edge = pytest.mark.parametrize(
    "edge",
    [PRIVATE, PRIVATE_DOMAIN, PRIVATE_ZONE, PUBLIC, PUBLIC_ZONE],
    ids=["private", "private domain", "private zone", "public", "public zone"],
)


def web(edge: Mapping[str, Any], **changes: Any) -> Registrations:
    """What ``Web`` alone registers. The load balancer's values come late, as from a resource."""

    def build() -> None:
        Web("web", **arguments(edge, **changes))

    return run_component(build)


def arguments(edge: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "namespace": NAMESPACE,
        "load_balancer_arn": Output.from_input(LOAD_BALANCER),
        "load_balancer_dns_name": Output.from_input(LOAD_BALANCER_NAME),
        "site_config": {"googleClientId": Output.from_input("1234-abc.apps.googleusercontent.com"), "keysOnly": False},
        **edge,
        **changes,
    }


def distribution(made: Registrations) -> Registration:
    return made.one("cloudfront/distribution:Distribution")


def origin(made: Registrations, origin_id: str) -> Mapping[str, Any]:
    origins: list[Mapping[str, Any]] = distribution(made).inputs["origins"]
    (found,) = [each for each in origins if each["originId"] == origin_id]
    return found
