"""What CloudFront does with a request: where it goes, what passes, what is kept. Pure: only arguments are made here."""

from __future__ import annotations

from collections.abc import Sequence

from pulumi import Input
from pulumi_aws.cloudfront import (
    DistributionCustomErrorResponseArgs,
    DistributionDefaultCacheBehaviorArgs,
    DistributionDefaultCacheBehaviorFunctionAssociationArgs,
    DistributionOrderedCacheBehaviorArgs,
    DistributionOriginArgs,
    DistributionOriginCustomOriginConfigArgs,
    DistributionOriginVpcOriginConfigArgs,
    DistributionViewerCertificateArgs,
    VpcOriginVpcOriginEndpointConfigArgs,
    VpcOriginVpcOriginEndpointConfigOriginSslProtocolsArgs,
)

# What AWS manages, the same ids in every account.
CACHING_OPTIMIZED = "658327ea-f89d-4fab-a63d-7e88639e58f6"
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
ALL_VIEWER = "216adef6-5c7f-47e4-b989-5492eafa07d3"
ALL_VIEWER_EXCEPT_HOST = "b689b0a8-53d0-40ab-baf2-68738e2966ac"

SITE, API = "site", "api"  # the two origins
API_PATHS = ("/v1/*", "/api/*")

# Seconds to the first byte, and between two packets. The control plane keeps every silence shorter than this (its
# setting edge_read_timeout_s); 60 is what every account is allowed.
READ_TIMEOUT_S = 60
# A connection that is kept saves the next request the handshake. Must stay below the load balancer's idle timeout, or
# that closes what CloudFront is about to use.
KEEPALIVE_TIMEOUT_S = 60

# All that CloudFront knows. Each is cached for 10 s unless told otherwise, whatever the cache policy says: a client
# that comes back after a 503 would hear 503 again from the edge, when the model has long been ready.
ERRORS = (400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504)


def private_endpoint(name: str, *, load_balancer_arn: Input[str]) -> VpcOriginVpcOriginEndpointConfigArgs:
    """The internal load balancer as CloudFront may reach it."""
    return VpcOriginVpcOriginEndpointConfigArgs(
        name=name,
        arn=load_balancer_arn,
        http_port=80,
        https_port=443,
        # Inside AWS's network and ours; HTTPS would need a certificate, and a name to have one for.
        origin_protocol_policy="http-only",
        origin_ssl_protocols=VpcOriginVpcOriginEndpointConfigOriginSslProtocolsArgs(items=["TLSv1.2"], quantity=1),
    )


def private_origin(*, dns_name: Input[str], vpc_origin_id: Input[str]) -> DistributionOriginArgs:
    """The internal load balancer, through its VPC origin."""
    return DistributionOriginArgs(
        origin_id=API,
        domain_name=dns_name,
        vpc_origin_config=DistributionOriginVpcOriginConfigArgs(
            vpc_origin_id=vpc_origin_id,
            origin_read_timeout=READ_TIMEOUT_S,
            origin_keepalive_timeout=KEEPALIVE_TIMEOUT_S,
        ),
    )


def public_origin(domain: str) -> DistributionOriginArgs:
    """The internet-facing load balancer, by the name that its certificate is for."""
    return DistributionOriginArgs(
        origin_id=API,
        domain_name=domain,
        custom_origin_config=DistributionOriginCustomOriginConfigArgs(
            http_port=80,
            https_port=443,
            origin_protocol_policy="https-only",
            origin_ssl_protocols=["TLSv1.2"],
            origin_read_timeout=READ_TIMEOUT_S,
            origin_keepalive_timeout=KEEPALIVE_TIMEOUT_S,
        ),
    )


def site_behaviour(*, rewrite_arn: Input[str], headers_policy_id: Input[str]) -> DistributionDefaultCacheBehaviorArgs:
    """The web app: kept at the edge, its routes rewritten to its one page."""
    rewrite = DistributionDefaultCacheBehaviorFunctionAssociationArgs(
        event_type="viewer-request", function_arn=rewrite_arn
    )
    return DistributionDefaultCacheBehaviorArgs(
        target_origin_id=SITE,
        allowed_methods=["GET", "HEAD"],
        cached_methods=["GET", "HEAD"],
        viewer_protocol_policy="redirect-to-https",
        cache_policy_id=CACHING_OPTIMIZED,
        compress=True,
        function_associations=[rewrite],
        response_headers_policy_id=headers_policy_id,
    )


def api_behaviours(*, host_kept: bool) -> Sequence[DistributionOrderedCacheBehaviorArgs]:
    """The API: everything passes, both ways, and nothing is kept.

    ``host_kept``: the control plane sees the host that the client typed, one of this distribution's. Impossible where
    the load balancer has a certificate: there CloudFront must ask for the name that the certificate is for.
    """
    return [
        DistributionOrderedCacheBehaviorArgs(
            path_pattern=path,
            target_origin_id=API,
            allowed_methods=["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"],
            cached_methods=["GET", "HEAD"],  # CloudFront wants some named; the policy caches none
            viewer_protocol_policy="https-only",  # a redirect would forgive a key sent in the clear
            cache_policy_id=CACHING_DISABLED,
            origin_request_policy_id=ALL_VIEWER if host_kept else ALL_VIEWER_EXCEPT_HOST,
            compress=False,  # nothing may hold a stream's bytes back
        )
        for path in API_PATHS
    ]


def uncached_errors() -> Sequence[DistributionCustomErrorResponseArgs]:
    """No error is kept. None has a page: these hold for the API too, and a page would stand in for its errors."""
    return [DistributionCustomErrorResponseArgs(error_code=code, error_caching_min_ttl=0) for code in ERRORS]


def viewer_certificate(arn: str | None) -> DistributionViewerCertificateArgs:
    """Of the distribution's own domain; None means CloudFront's name and certificate."""
    if arn is None:
        return DistributionViewerCertificateArgs(cloudfront_default_certificate=True)
    return DistributionViewerCertificateArgs(
        acm_certificate_arn=arn, ssl_support_method="sni-only", minimum_protocol_version="TLSv1.2_2021"
    )
