"""The bucket that the nodes share."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from gpu_node import package, policies

COMPILE_CACHE_DAYS = 60
"""From when it was saved; the next start after that compiles and saves it again."""


class NodeFiles(pulumi.ComponentResource):
    """A private bucket for the agent's packages, with the package of this version in it; for what engines compiled; and
    for the weights of models that are configured so.

    All of it can be had again, so it goes with the stack.
    """

    bucket_name: pulumi.Output[str]
    bucket_arn: pulumi.Output[str]
    package: package.Package
    uploaded: pulumi.Resource  # what a template must wait for

    def __init__(self, name: str, *, tags: Mapping[str, str], opts: pulumi.ResourceOptions | None = None) -> None:
        """``name`` is the beginning of the bucket's; Pulumi adds what makes it the only one in the world."""
        super().__init__("diogenes:gpu_node:NodeFiles", name, None, opts)
        bucket = aws.s3.Bucket(name, force_destroy=True, tags=dict(tags), opts=pulumi.ResourceOptions(parent=self))
        self.bucket_name, self.bucket_arn = bucket.bucket, bucket.arn
        self._close(name)
        self._encrypt(name)
        self._tidy(name)
        self.package = package.build()
        self.uploaded = aws.s3.BucketObjectv2(
            f"{name}-agent",
            bucket=self.bucket_name,
            key=self.package.key,
            content_base64=base64.b64encode(self.package.content).decode(),
            content_type="application/gzip",
            # An older one stays for the machine that boots just now and was told of it; it goes with the bucket.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )
        self.register_outputs({"bucketName": self.bucket_name})

    def _close(self, name: str) -> None:
        private = aws.s3.BucketPublicAccessBlock(
            name,
            bucket=self.bucket_name,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        aws.s3.BucketPolicy(
            name,
            bucket=self.bucket_name,
            policy=self.bucket_arn.apply(lambda arn: json.dumps(policies.bucket_policy(arn))),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[private]),  # S3 refuses both at a time
        )

    def _encrypt(self, name: str) -> None:
        with_s3s_key = aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="AES256"
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            name,
            bucket=self.bucket_name,
            rules=[
                aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                    apply_server_side_encryption_by_default=with_s3s_key
                )
            ],
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _tidy(self, name: str) -> None:
        """A node that goes in the middle of an upload leaves parts that nobody sees and everybody pays for; an engine
        of another version leaves compiled code that nobody asks for, and what is still in use is compiled again."""
        after_a_day = aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(days_after_initiation=1)
        after_two_months = aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(days=COMPILE_CACHE_DAYS)
        aws.s3.BucketLifecycleConfiguration(
            name,
            bucket=self.bucket_name,
            rules=[
                aws.s3.BucketLifecycleConfigurationRuleArgs(
                    id="abandoned-uploads",
                    status="Enabled",
                    filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
                    abort_incomplete_multipart_upload=after_a_day,
                ),
                aws.s3.BucketLifecycleConfigurationRuleArgs(
                    id="old-compile-caches",
                    status="Enabled",
                    filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=policies.CACHE_PREFIX),
                    expiration=after_two_months,
                ),
            ],
            opts=pulumi.ResourceOptions(parent=self),
        )
