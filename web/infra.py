"""The edge: CloudFront in front of the web app's bucket and of the load balancer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import Input, Output, ResourceOptions

from web import distribution
from web.bucket import SiteBucket
from web.headers import page_headers
from web.site import HOME, is_built, site_folder

TAG = "diogenes"  # on everything of ours that can bear one; its value is the namespace


class Web(pulumi.ComponentResource):
    """The site and its address. ``/v1/*`` and ``/api/*`` go to the load balancer, everything else to the bucket.

    With edge ``cloudfront`` the load balancer is internal, CloudFront reaches it inside the VPC, and ``domain``, if
    there is one, is CloudFront's. With edge ``public`` the load balancer is internet-facing and ``domain`` is its own,
    for API clients; the site keeps CloudFront's name, and reaches the API under that. Where ``hosted_zone_id`` is
    given, the domain's alias records are written.

    Made before CloudFront has told all its edges: at first the address may take some minutes to answer.
    Raises ValueError, before anything is registered, where the arguments do not fit the edge.
    """

    url: Output[str]  # of the web app; no slash at the end
    api_base_url: Output[str]  # what OpenAI clients call their base URL
    distribution_domain: Output[str]  # the name that CloudFront gave

    def __init__(
        self,
        name: str,
        *,
        namespace: str,
        load_balancer_arn: Input[str],
        load_balancer_dns_name: Input[str],
        edge: str,  # "cloudfront" or "public"
        site_config: Mapping[str, Input[Any]],  # becomes /config.json, which all the world may read
        domain: str | None = None,
        certificate_arn: str | None = None,  # the domain's; with edge public the load balancer's alone
        hosted_zone_id: str | None = None,
        load_balancer_zone_id: Input[str] | None = None,  # for the record of edge public
        opts: ResourceOptions | None = None,
    ) -> None:
        zone_known = hosted_zone_id is None or load_balancer_zone_id is not None
        _check(edge, domain=domain, certificate_arn=certificate_arn, zone_known=zone_known)
        super().__init__("diogenes:web:Web", name, None, opts)
        self._name, self._namespace, self._tags = name, namespace, {TAG: namespace}

        if not is_built():
            pulumi.log.warn("The web app is not built: a page that says so is deployed. `make web` builds it.", self)
        bucket = SiteBucket(
            f"{name}-site",
            name_prefix=f"{namespace}-web-",
            tags=self._tags,
            folder=site_folder(),
            config=site_config,
            opts=self._child(),
        )
        site_domain = domain if edge == "cloudfront" else None  # CloudFront's
        api_domain = domain if edge == "public" else None  # the load balancer's
        cdn = self._distribution(
            bucket,
            distribution.public_origin(api_domain)
            if api_domain
            else self._private_origin(load_balancer_arn, load_balancer_dns_name),
            host_kept=api_domain is None,
            domain=site_domain,
            certificate_arn=certificate_arn if site_domain else None,
        )
        bucket.admit(cdn.arn)
        if hosted_zone_id and site_domain:
            for type_ in ("A", "AAAA"):
                self._record(type_, site_domain, hosted_zone_id, alias=_alias(cdn.domain_name, cdn.hosted_zone_id))
        if hosted_zone_id and api_domain and load_balancer_zone_id is not None:  # it has no IPv6
            self._record("A", api_domain, hosted_zone_id, alias=_alias(load_balancer_dns_name, load_balancer_zone_id))

        self.distribution_domain = cdn.domain_name
        self.url = Output.concat("https://", site_domain or cdn.domain_name)
        self.api_base_url = Output.concat("https://", domain or cdn.domain_name, "/v1")
        self.register_outputs(
            {"url": self.url, "apiBaseUrl": self.api_base_url, "distributionDomain": self.distribution_domain}
        )

    def _child(self) -> ResourceOptions:
        return ResourceOptions(parent=self)

    def _private_origin(self, arn: Input[str], dns_name: Input[str]) -> aws.cloudfront.DistributionOriginArgs:
        # Takes AWS up to 15 minutes, and cannot be changed while it is in use: hence the load balancer's fixed name.
        origin = aws.cloudfront.VpcOrigin(
            f"{self._name}-api",
            vpc_origin_endpoint_config=distribution.private_endpoint(f"{self._namespace}-api", load_balancer_arn=arn),
            tags=self._tags,
            opts=self._child(),
        )
        return distribution.private_origin(dns_name=dns_name, vpc_origin_id=origin.id)

    def _distribution(
        self,
        bucket: SiteBucket,
        api: aws.cloudfront.DistributionOriginArgs,
        *,
        host_kept: bool,
        domain: str | None,
        certificate_arn: str | None,
    ) -> aws.cloudfront.Distribution:
        headers = page_headers(f"{self._name}-site", policy_name=f"{self._namespace}-web", opts=self._child())
        return aws.cloudfront.Distribution(
            self._name,
            comment=self._namespace,
            enabled=True,
            aliases=[domain] if domain else [],
            viewer_certificate=distribution.viewer_certificate(certificate_arn),
            default_root_object="index.html",
            origins=[self._site_origin(bucket), api],
            default_cache_behavior=distribution.site_behaviour(
                rewrite_arn=self._rewrite().arn, headers_policy_id=headers.id
            ),
            ordered_cache_behaviors=distribution.api_behaviours(host_kept=host_kept),
            custom_error_responses=distribution.uncached_errors(),
            http_version="http2and3",
            is_ipv6_enabled=True,
            price_class="PriceClass_All",  # what one person moves is within the free terabyte, wherever they are
            restrictions=aws.cloudfront.DistributionRestrictionsArgs(
                geo_restriction=aws.cloudfront.DistributionRestrictionsGeoRestrictionArgs(restriction_type="none")
            ),
            wait_for_deployment=False,  # all edges know it after minutes, and nothing of ours waits for that
            tags=self._tags,
            opts=self._child(),
        )

    def _site_origin(self, bucket: SiteBucket) -> aws.cloudfront.DistributionOriginArgs:
        access = aws.cloudfront.OriginAccessControl(
            f"{self._name}-site",
            name=f"{self._namespace}-web",
            description=f"{self._namespace}: the web app's bucket",
            origin_access_control_origin_type="s3",
            signing_behavior="always",
            signing_protocol="sigv4",
            opts=self._child(),
        )
        return aws.cloudfront.DistributionOriginArgs(
            origin_id=distribution.SITE,
            domain_name=bucket.regional_domain_name,
            origin_access_control_id=access.id,
        )

    def _rewrite(self) -> aws.cloudfront.Function:
        return aws.cloudfront.Function(
            f"{self._name}-rewrite",
            name=f"{self._namespace}-rewrite",
            runtime="cloudfront-js-2.0",
            code=(HOME / "rewrite.js").read_text(),
            publish=True,
            comment="The web app's routes are its one page",
            opts=self._child(),
        )

    def _record(self, type_: str, domain: str, zone_id: str, *, alias: aws.route53.RecordAliasArgs) -> None:
        aws.route53.Record(
            f"{self._name}-{type_.lower()}",
            zone_id=zone_id,
            name=domain,
            type=type_,
            aliases=[alias],
            opts=self._child(),
        )


def _alias(name: Input[str], zone_id: Input[str]) -> aws.route53.RecordAliasArgs:
    return aws.route53.RecordAliasArgs(name=name, zone_id=zone_id, evaluate_target_health=False)


def _check(edge: str, *, domain: str | None, certificate_arn: str | None, zone_known: bool) -> None:
    if edge not in ("cloudfront", "public"):
        raise ValueError(f"edge is {edge!r}; it must be cloudfront or public")
    if edge == "public" and not domain:
        raise ValueError("edge public needs a domain: the load balancer's certificate is for one")
    if edge == "public" and not zone_known:
        raise ValueError("edge public with a hosted zone needs load_balancer_zone_id, for the alias record")
    if edge == "cloudfront" and domain and not certificate_arn:
        raise ValueError("a domain of CloudFront's needs a certificate")
