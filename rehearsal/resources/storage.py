"""Parameters of SSM, buckets and objects of S3."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path
from typing import Any

import pulumi

from rehearsal.resources.given import Api, Given, Made, Unmade


def parameter(given: Given, api: Api) -> Made:
    name = given.need("name")
    api.call("ssm", "PutParameter", name=name, **given.rest())
    arn = f"arn:aws:ssm:{api.region}:{api.account}:parameter/{name.lstrip('/')}"
    return Made(name, {"arn": arn, "version": 1})


def bucket(given: Given, api: Api) -> Made:
    """A name that nobody in the world has, where none is given."""
    given.pass_over("forceDestroy")
    prefix = given.take("bucketPrefix", f"{given.name}-")
    name = given.take("bucket") or f"{prefix}{uuid.uuid4().hex[:12]}"
    tags = given.take("tags")
    api.call("s3", "CreateBucket", bucket=name)
    if tags:
        api.call("s3", "PutBucketTagging", bucket=name, tagging={"tagSet": tags})
    domain = f"{name}.s3.{api.region}.amazonaws.com"
    return Made(name, {"bucket": name, "arn": f"arn:aws:s3:::{name}", "bucketRegionalDomainName": domain})


def bucket_object(given: Given, api: Api) -> Made:
    """What browsers are told to keep is the site's: ``edge.py`` serves it from where it was built."""
    name, key = given.need("bucket"), given.need("key")
    if given.take("cacheControl"):
        given.pass_over("content", "source", "contentType")
        return Made(key, {"arn": f"arn:aws:s3:::{name}/{key}"})
    api.call("s3", "PutObject", bucket=name, key=key, body=_content(given), **given.rest())
    return Made(key, {"arn": f"arn:aws:s3:::{name}/{key}"})


def _content(given: Given) -> bytes:
    text: str | None = given.take("content")
    encoded: str | None = given.take("contentBase64")
    source: Any = given.take("source")
    if text is not None:
        return text.encode()
    if encoded is not None:
        return base64.b64decode(encoded)
    if isinstance(source, pulumi.FileAsset):
        return Path(source.path).read_bytes()
    if isinstance(source, pulumi.StringAsset):
        return str(source.text).encode()
    raise Unmade(f"{given.kind} {given.name}: a content of {type(source).__name__}")
