"""What this tier cannot show, by name and with the reason. Everything that is not listed here is for real."""

from __future__ import annotations

from collections.abc import Mapping

from tests.provider.state import Kind, Operation

FAKED: Mapping[str, str] = {
    "aws_budgets_budget": "moto has no DescribeSubscribersForNotification",
    "aws_cloudfront_function": "moto has no PublishFunction",
    "aws_cloudfront_response_headers_policy": "moto has no CreateResponseHeadersPolicy",
    "aws_cloudfront_vpc_origin": "moto has no CreateVpcOrigin",
    "aws_s3_bucket_policy": "moto ignores conditions: a refusal of what comes without TLS refuses everything",
}
"""Types that the provider validates and plans, and that the emulated account cannot make: their apply is invented."""

DROPPED: Mapping[str, str] = {}
"""Properties of Pulumi's 7.x that the executable's older schema lacks, as type.property: not checked here at all."""


FORGOTTEN: Mapping[str, Mapping[str, str]] = {
    "aws_cloudfront_distribution": {
        "custom_error_response": "moto keeps no error responses",
        "default_cache_behavior": "moto invents forwarded values, and forgets functions",
        "ordered_cache_behavior": "moto invents forwarded values",
        "origin": "moto forgets the VPC origin and the origin access control",
        "viewer_certificate": "moto invents a way of SNI for CloudFront's own certificate",
    },
    "aws_ecs_service": {
        "availability_zone_rebalancing": "moto takes it from an update only, not from the creation",
        "health_check_grace_period_seconds": "moto takes it from an update only, not from the creation",
    },
    "aws_launch_template": {
        "tag_specifications": "moto counts the template's own tags among those of what it launches",
        "default_version": "a template that is updated gets a version",
        "latest_version": "a template that is updated gets a version",
    },
    "aws_vpc_security_group_ingress_rule": {"description": "moto returns it for ranges of addresses only"},
    "aws_vpc_security_group_egress_rule": {"description": "moto returns it for ranges of addresses only"},
}
"""What the emulated account does not give back as it was told, by type and argument: it shows as a change each time."""


def forgotten(change: Operation) -> bool:
    """Whether the emulator alone explains a change."""
    type_ = change.label.split()[0]
    arguments = {line.split(":")[0].split(".")[0] for line in change.differences}
    return change.kind is Kind.UPDATE and arguments <= set(FORGOTTEN.get(type_, {}))
