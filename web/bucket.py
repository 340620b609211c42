"""The web app's bucket: private, filled with the site's files, read by one distribution."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import Input, Output, ResourceOptions

from web.site import ASK_EVERY_TIME, CONFIG, CONTENT_TYPES, SiteFile, site_files


class SiteBucket(pulumi.ComponentResource):
    """The site's files and ``/config.json``. Nobody but us reads them until ``admit``."""

    regional_domain_name: Output[str]

    def __init__(
        self,
        name: str,
        *,
        name_prefix: str,  # of the bucket; S3 allows 37 characters
        tags: Mapping[str, str],
        folder: Path,  # what is uploaded
        config: Mapping[str, Input[Any]],
        opts: ResourceOptions | None = None,
    ) -> None:
        super().__init__("diogenes:web:SiteBucket", name, None, opts)
        self._name = name
        self._bucket = aws.s3.Bucket(
            name,
            bucket_prefix=name_prefix,
            force_destroy=True,  # everything in it can be uploaded again
            tags=tags,
            opts=self._child(),
        )
        self._block = self._close()
        self._encrypt()
        for file in site_files(folder):
            self._upload(file)
        self._write_config(config)
        self.regional_domain_name = self._bucket.bucket_regional_domain_name
        self.register_outputs({})

    def admit(self, distribution_arn: Input[str]) -> None:
        """Let this distribution read. A step of its own: the distribution has to know the bucket before."""
        policy = Output.all(self._bucket.arn, distribution_arn).apply(lambda arns: json.dumps(bucket_policy(*arns)))
        aws.s3.BucketPolicy(
            self._name,
            bucket=self._bucket.id,
            policy=policy,
            # S3 refuses two changes of who may read at the same time.
            opts=ResourceOptions(parent=self, depends_on=[self._block]),
        )

    def _child(self) -> ResourceOptions:
        return ResourceOptions(parent=self)

    def _close(self) -> aws.s3.BucketPublicAccessBlock:
        aws.s3.BucketOwnershipControls(
            self._name,
            bucket=self._bucket.id,
            rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            opts=self._child(),
        )
        return aws.s3.BucketPublicAccessBlock(
            self._name,
            bucket=self._bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._child(),
        )

    def _encrypt(self) -> None:
        # With a key of S3's: one of KMS would have to admit CloudFront too, and cost a dollar a month.
        by_default = aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="AES256"
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            self._name,
            bucket=self._bucket.id,
            rules=[
                aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                    apply_server_side_encryption_by_default=by_default
                )
            ],
            opts=self._child(),
        )

    def _upload(self, file: SiteFile) -> None:
        aws.s3.BucketObjectv2(
            f"{self._name}/{file.path}",
            bucket=self._bucket.id,
            key=file.path,
            source=pulumi.FileAsset(str(file.source)),
            content_type=file.content_type,
            cache_control=file.cache_control,
            # A page that was open before an update still loads the parts of its own version.
            opts=ResourceOptions(parent=self, retain_on_delete=file.hashed),
        )

    def _write_config(self, config: Mapping[str, Input[Any]]) -> None:
        aws.s3.BucketObjectv2(
            f"{self._name}/{CONFIG}",
            bucket=self._bucket.id,
            key=CONFIG,
            content=Output.json_dumps(dict(config), sort_keys=True),
            content_type=CONTENT_TYPES[".json"],
            cache_control=ASK_EVERY_TIME,
            opts=self._child(),
        )


def bucket_policy(bucket_arn: str, distribution_arn: str) -> Mapping[str, Any]:
    """This distribution may read, nobody may do anything without TLS."""
    everything = [bucket_arn, f"{bucket_arn}/*"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "ReadByOurDistribution",
                "Effect": "Allow",
                "Principal": {"Service": "cloudfront.amazonaws.com"},
                "Action": "s3:GetObject",
                "Resource": f"{bucket_arn}/*",
                "Condition": {"StringEquals": {"AWS:SourceArn": distribution_arn}},
            },
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": everything,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ],
    }
