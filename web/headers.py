"""The headers of the web app's pages. The API's answers have their own."""

from __future__ import annotations

import pulumi_aws as aws
from pulumi import ResourceOptions
from pulumi_aws.cloudfront import (
    ResponseHeadersPolicyCustomHeadersConfigArgs,
    ResponseHeadersPolicyCustomHeadersConfigItemArgs,
    ResponseHeadersPolicySecurityHeadersConfigArgs,
    ResponseHeadersPolicySecurityHeadersConfigContentSecurityPolicyArgs,
    ResponseHeadersPolicySecurityHeadersConfigContentTypeOptionsArgs,
    ResponseHeadersPolicySecurityHeadersConfigFrameOptionsArgs,
    ResponseHeadersPolicySecurityHeadersConfigReferrerPolicyArgs,
    ResponseHeadersPolicySecurityHeadersConfigStrictTransportSecurityArgs,
)

# Nothing from elsewhere. Formulas set their glyphs with style attributes; images are ours or inline, so that a model
# cannot make a page call out by writing the address of one.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "style-src-attr 'unsafe-inline'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
OTHER_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
ONE_YEAR_S = 365 * 24 * 3600


def page_headers(name: str, *, policy_name: str, opts: ResourceOptions) -> aws.cloudfront.ResponseHeadersPolicy:
    """What browsers are told with every page and file, whatever the bucket says."""
    return aws.cloudfront.ResponseHeadersPolicy(
        name,
        name=policy_name,
        security_headers_config=_security_headers(),
        custom_headers_config=ResponseHeadersPolicyCustomHeadersConfigArgs(
            items=[
                ResponseHeadersPolicyCustomHeadersConfigItemArgs(header=header, value=value, override=True)
                for header, value in OTHER_HEADERS.items()
            ]
        ),
        opts=opts,
    )


def _security_headers() -> ResponseHeadersPolicySecurityHeadersConfigArgs:
    return ResponseHeadersPolicySecurityHeadersConfigArgs(
        content_security_policy=ResponseHeadersPolicySecurityHeadersConfigContentSecurityPolicyArgs(
            content_security_policy=CONTENT_SECURITY_POLICY, override=True
        ),
        # Of this name only: what else the owner runs below their domain is not ours to decide.
        strict_transport_security=ResponseHeadersPolicySecurityHeadersConfigStrictTransportSecurityArgs(
            access_control_max_age_sec=ONE_YEAR_S, include_subdomains=False, preload=False, override=True
        ),
        content_type_options=ResponseHeadersPolicySecurityHeadersConfigContentTypeOptionsArgs(override=True),
        frame_options=ResponseHeadersPolicySecurityHeadersConfigFrameOptionsArgs(frame_option="DENY", override=True),
        # Other sites hear nothing of where one was; our own API still sees where a request comes from.
        referrer_policy=ResponseHeadersPolicySecurityHeadersConfigReferrerPolicyArgs(
            referrer_policy="same-origin", override=True
        ),
    )
