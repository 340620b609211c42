"""The edge, as the program registers it: for both edges, with and without a domain and a zone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pulumi import Output

from control_plane import schema
from control_plane.settings import Settings
from tests.infra.component import run_component
from tests.infra.edge import (
    CDN_NAME,
    CERTIFICATE,
    DOMAIN,
    LOAD_BALANCER,
    LOAD_BALANCER_NAME,
    LOAD_BALANCER_ZONE,
    NAMESPACE,
    PRIVATE,
    PRIVATE_DOMAIN,
    PRIVATE_ZONE,
    PUBLIC,
    PUBLIC_ZONE,
    arguments,
    distribution,
    every_edge,
    origin,
    web,
)
from web import infra
from web.distribution import (
    ALL_VIEWER,
    ALL_VIEWER_EXCEPT_HOST,
    CACHING_DISABLED,
    CACHING_OPTIMIZED,
    ERRORS,
    KEEPALIVE_TIMEOUT_S,
    READ_TIMEOUT_S,
)
from web.infra import Web

# -- the API's way


@every_edge
def test_api_answers_pass_as_they_are_and_are_never_kept(edge: Mapping[str, Any]) -> None:
    behaviours = distribution(web(edge)).inputs["orderedCacheBehaviors"]
    host = ALL_VIEWER_EXCEPT_HOST if edge["edge"] == "public" else ALL_VIEWER
    # Whole, so that neither a function nor headers of ours nor compression can come in between.
    assert behaviours == [
        {
            "pathPattern": path,
            "targetOriginId": "api",
            "allowedMethods": ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"],
            "cachedMethods": ["GET", "HEAD"],
            "viewerProtocolPolicy": "https-only",
            "cachePolicyId": CACHING_DISABLED,
            "originRequestPolicyId": host,
            "compress": False,
        }
        for path in ("/v1/*", "/api/*")
    ]


@every_edge
def test_errors_are_never_kept_and_none_is_replaced_by_a_page(edge: Mapping[str, Any]) -> None:
    errors = distribution(web(edge)).inputs["customErrorResponses"]
    assert errors == [{"errorCode": code, "errorCachingMinTtl": 0} for code in ERRORS]
    assert {404, 500, 502, 503, 504} <= set(ERRORS)


def test_an_internal_load_balancer_is_reached_inside_the_vpc() -> None:
    made = web(PRIVATE)
    endpoint = made.one("cloudfront/vpcOrigin:VpcOrigin")
    assert endpoint.inputs["vpcOriginEndpointConfig"] == {
        "name": "diogenes-test-api",
        "arn": LOAD_BALANCER,
        "httpPort": 80,
        "httpsPort": 443,
        "originProtocolPolicy": "http-only",
        "originSslProtocols": {"items": ["TLSv1.2"], "quantity": 1},
    }
    assert origin(made, "api") == {
        "originId": "api",
        "domainName": LOAD_BALANCER_NAME,
        "vpcOriginConfig": {
            "vpcOriginId": endpoint.id,
            "originReadTimeout": READ_TIMEOUT_S,
            "originKeepaliveTimeout": KEEPALIVE_TIMEOUT_S,
        },
    }


def test_a_public_load_balancer_is_reached_by_its_certificates_name_over_tls_only() -> None:
    made = web(PUBLIC)
    assert len(made.of(":VpcOrigin")) == 0
    assert origin(made, "api") == {
        "originId": "api",
        "domainName": DOMAIN,
        "customOriginConfig": {
            "httpPort": 80,
            "httpsPort": 443,
            "originProtocolPolicy": "https-only",
            "originSslProtocols": ["TLSv1.2"],
            "originReadTimeout": READ_TIMEOUT_S,
            "originKeepaliveTimeout": KEEPALIVE_TIMEOUT_S,
        },
    }


def test_the_edge_waits_as_long_as_the_control_plane_believes() -> None:
    assert Settings(namespace=NAMESPACE).edge_read_timeout_s == READ_TIMEOUT_S


# -- the site's way


@every_edge
def test_the_site_is_the_default_and_its_routes_are_rewritten_there_only(edge: Mapping[str, Any]) -> None:
    made = web(edge)
    function = made.one("cloudfront/function:Function")
    assert function.inputs["publish"] is True
    assert function.inputs["runtime"] == "cloudfront-js-2.0"
    assert "function handler(event)" in function.inputs["code"]
    assert distribution(made).inputs["defaultCacheBehavior"] == {
        "targetOriginId": "site",
        "allowedMethods": ["GET", "HEAD"],
        "cachedMethods": ["GET", "HEAD"],
        "viewerProtocolPolicy": "redirect-to-https",
        "cachePolicyId": CACHING_OPTIMIZED,
        "compress": True,
        "functionAssociations": [{"eventType": "viewer-request", "functionArn": function.state["arn"]}],
        "responseHeadersPolicyId": made.one(":ResponseHeadersPolicy").id,
    }


def test_pages_carry_every_security_header() -> None:
    policy = web(PRIVATE).one(":ResponseHeadersPolicy").inputs
    headers = policy["securityHeadersConfig"]
    assert headers.pop("contentSecurityPolicy").keys() == {"contentSecurityPolicy", "override"}
    assert headers == {
        "strictTransportSecurity": {
            "accessControlMaxAgeSec": 31_536_000,
            "includeSubdomains": False,
            "preload": False,
            "override": True,
        },
        "contentTypeOptions": {"override": True},
        "frameOptions": {"frameOption": "DENY", "override": True},
        "referrerPolicy": {"referrerPolicy": "same-origin", "override": True},
    }
    others = {item["header"]: item["value"] for item in policy["customHeadersConfig"]["items"]}
    assert others["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in others["Permissions-Policy"]


def test_pages_load_nothing_from_elsewhere() -> None:
    policy = web(PRIVATE).one(":ResponseHeadersPolicy").inputs["securityHeadersConfig"]["contentSecurityPolicy"]
    assert policy["override"] is True
    rules = {
        rule.split()[0]: set(rule.split()[1:]) for rule in policy["contentSecurityPolicy"].split("; ") if rule.strip()
    }
    assert rules.pop("style-src-attr") == {"'unsafe-inline'"}
    assert rules.pop("img-src") == {"'self'", "data:"}
    assert {rule: sources for rule, sources in rules.items() if sources not in ({"'self'"}, {"'none'"})} == {}
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == {"'none'"}
    assert rules["script-src"] == rules["connect-src"] == rules["style-src"] == {"'self'"}


# -- the address


@pytest.mark.parametrize(
    ("edge", "url", "api"),
    [
        (PRIVATE, f"https://{CDN_NAME}", f"https://{CDN_NAME}/v1"),
        (PRIVATE_DOMAIN, f"https://{DOMAIN}", f"https://{DOMAIN}/v1"),
        (PUBLIC, f"https://{CDN_NAME}", f"https://{DOMAIN}/v1"),
    ],
    ids=["private", "private domain", "public"],
)
def test_the_addresses_are_those_of_the_edge(edge: Mapping[str, Any], url: str, api: str) -> None:
    made = web(edge)
    assert made.outputs(made.one("diogenes:web:Web")) == {
        "url": url,
        "apiBaseUrl": api,
        "distributionDomain": CDN_NAME,
    }


@pytest.mark.parametrize("edge", [PRIVATE, PUBLIC], ids=["private", "public"])
def test_without_a_domain_of_its_own_the_distribution_has_amazons_certificate(edge: Mapping[str, Any]) -> None:
    inputs = distribution(web(edge)).inputs
    assert inputs["aliases"] == []
    assert inputs["viewerCertificate"] == {"cloudfrontDefaultCertificate": True}


def test_a_domain_of_the_distribution_has_the_given_certificate_and_no_old_tls() -> None:
    inputs = distribution(web(PRIVATE_DOMAIN)).inputs
    assert inputs["aliases"] == [DOMAIN]
    assert inputs["viewerCertificate"] == {
        "acmCertificateArn": CERTIFICATE,
        "sslSupportMethod": "sni-only",
        "minimumProtocolVersion": "TLSv1.2_2021",
    }


@pytest.mark.parametrize(
    ("edge", "types", "target"),
    [
        (PRIVATE, [], None),
        (PRIVATE_DOMAIN, [], None),
        (PUBLIC, [], None),
        (PRIVATE_ZONE, ["A", "AAAA"], (CDN_NAME, "Z2FDTNDATAQYW2")),
        (PUBLIC_ZONE, ["A"], (LOAD_BALANCER_NAME, LOAD_BALANCER_ZONE)),
    ],
    ids=["private", "private domain", "public", "private zone", "public zone"],
)
def test_the_domains_records_point_at_whoever_has_the_domain(
    edge: Mapping[str, Any], types: list[str], target: tuple[str, str] | None
) -> None:
    records = web(edge).of("route53/record:Record")
    assert sorted(each.inputs["type"] for each in records) == types
    for each in records:
        name, zone = target or ("", "")
        assert (each.inputs["name"], each.inputs["zoneId"]) == (DOMAIN, "Z0HOSTED")
        assert each.inputs["aliases"] == [{"name": name, "zoneId": zone, "evaluateTargetHealth": False}]


# -- as a part of the program


@every_edge
def test_the_distribution_says_what_it_must_and_nothing_else(edge: Mapping[str, Any]) -> None:
    inputs = dict(distribution(web(edge)).inputs)
    for told_elsewhere in (
        *("aliases", "customErrorResponses", "defaultCacheBehavior", "orderedCacheBehaviors"),
        *("origins", "viewerCertificate"),
    ):
        inputs.pop(told_elsewhere)
    assert inputs == {
        "comment": NAMESPACE,
        "defaultRootObject": "index.html",
        "enabled": True,
        "httpVersion": "http2and3",
        "isIpv6Enabled": True,
        "priceClass": "PriceClass_All",
        "restrictions": {"geoRestriction": {"restrictionType": "none"}},
        "tags": {schema.TAG: NAMESPACE},
        "waitForDeployment": False,
    }


@every_edge
def test_everything_belongs_to_the_component(edge: Mapping[str, Any]) -> None:
    made = web(edge)
    component, site = made.one("diogenes:web:Web"), made.one("diogenes:web:SiteBucket")
    assert {each.parent for each in made if each is not component} == {component.urn, site.urn}
    assert site.parent == component.urn


@every_edge
def test_nothing_that_was_passed_is_dropped(edge: Mapping[str, Any]) -> None:
    """A resource where its id is wanted becomes an empty value, without a word."""
    for each in web(edge):
        empty = [name for name, value in each.inputs.items() if value in (None, "", {}) and name != "content"]
        assert not empty, f"{each.type} {each.name}: {empty}"


def test_all_names_are_the_deployments_own_and_short_enough_for_the_longest_namespace() -> None:
    limits = {":Function": 64, ":OriginAccessControl": 64, ":ResponseHeadersPolicy": 128}
    longest = "d" * 24  # the load balancer's target groups allow no more
    made = web(PRIVATE, namespace=longest)
    for type_, limit in limits.items():
        name = made.one(type_).inputs["name"]
        assert name.startswith(f"{longest}-")
        assert len(name) <= limit
    prefix = made.one("s3/bucket:Bucket").inputs["bucketPrefix"]
    assert prefix.startswith(f"{longest}-")
    assert len(prefix) <= 37


def test_what_can_bear_a_tag_bears_the_namespaces() -> None:
    made = web(PRIVATE)
    assert infra.TAG == schema.TAG
    for type_ in ("s3/bucket:Bucket", ":Distribution", ":VpcOrigin"):
        assert made.one(type_).inputs["tags"] == {schema.TAG: NAMESPACE}


@pytest.mark.parametrize(
    ("edge", "complaint"),
    [
        ({"edge": "private"}, "must be cloudfront or public"),
        ({"edge": "public"}, "needs a domain"),
        ({**PRIVATE, "domain": DOMAIN}, "needs a certificate"),
        ({**PUBLIC, "hosted_zone_id": "Z0HOSTED"}, "needs load_balancer_zone_id"),
    ],
)
def test_arguments_that_do_not_fit_the_edge_stop_it_before_anything_is_made(
    edge: Mapping[str, Any], complaint: str
) -> None:
    def build() -> None:
        with pytest.raises(ValueError, match=complaint):
            Web("web", **arguments(edge))

    assert len(run_component(build)) == 0


def test_a_broken_part_of_the_configuration_stops_the_program() -> None:
    def broken(_: object) -> str:
        raise RuntimeError("no client id")

    def build() -> None:
        Web("web", **arguments(PRIVATE, site_config={"googleClientId": Output.from_input("x").apply(broken)}))

    with pytest.raises(RuntimeError, match="no client id"):
        run_component(build)
    assert len(web(PRIVATE).of(":Distribution")) == 1  # and leaves the next run alone
