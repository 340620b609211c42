"""The web app's bucket: who reads it, what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.infra.edge import PRIVATE, distribution, every_edge, origin, web
from web.site import site_files, site_folder


@every_edge
def test_the_bucket_is_closed_to_the_world_and_read_by_this_distribution_alone(edge: Mapping[str, Any]) -> None:
    made = web(edge)
    bucket = made.one("s3/bucket:Bucket")
    name = bucket.id
    block = made.one(":BucketPublicAccessBlock")
    assert block.inputs == {
        "bucket": name,
        "blockPublicAcls": True,
        "blockPublicPolicy": True,
        "ignorePublicAcls": True,
        "restrictPublicBuckets": True,
    }
    policy = made.one(":BucketPolicy")
    assert policy.inputs["bucket"] == name
    assert block.urn in policy.dependencies
    statements = json.loads(policy.inputs["policy"])["Statement"]
    allowed = [each for each in statements if each["Effect"] == "Allow"]
    assert [(each["Principal"], each["Action"], each["Resource"], each["Condition"]) for each in allowed] == [
        (
            {"Service": "cloudfront.amazonaws.com"},
            "s3:GetObject",
            f"arn:aws:s3:::{name}/*",
            {"StringEquals": {"AWS:SourceArn": distribution(made).state["arn"]}},
        )
    ]
    (denied,) = [each for each in statements if each["Effect"] == "Deny"]
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert denied["Resource"] == [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]
    assert not [each for each in made if "acl" in each.inputs or "website" in each.inputs]


def test_the_bucket_is_encrypted_owned_by_us_and_leaves_nothing_behind() -> None:
    made = web(PRIVATE)
    assert made.one("s3/bucket:Bucket").inputs["forceDestroy"] is True
    assert made.one(":BucketOwnershipControls").inputs["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
    rules = made.one(":BucketServerSideEncryptionConfiguration").inputs["rules"]
    assert rules == [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}]


def test_the_distribution_signs_what_it_asks_of_the_bucket() -> None:
    made = web(PRIVATE)
    access = made.one(":OriginAccessControl")
    assert access.inputs["originAccessControlOriginType"] == "s3"
    assert (access.inputs["signingBehavior"], access.inputs["signingProtocol"]) == ("always", "sigv4")
    assert origin(made, "site") == {
        "originId": "site",
        "domainName": f"{made.one('s3/bucket:Bucket').id}.s3.us-east-1.amazonaws.com",
        "originAccessControlId": access.id,
    }


def test_every_file_of_the_site_is_uploaded_as_what_it_is() -> None:
    objects = web(PRIVATE).of(":BucketObjectv2")
    uploaded = {
        each.inputs["key"]: (each.inputs["contentType"], each.inputs["cacheControl"], each.inputs["source"].path)
        for each in objects
        if "source" in each.inputs
    }
    assert uploaded == {
        file.path: (file.content_type, file.cache_control, str(file.source)) for file in site_files(site_folder())
    }
    assert "index.html" in uploaded


def test_the_sites_configuration_is_what_it_was_given_and_is_asked_for_every_time() -> None:
    (config,) = [each for each in web(PRIVATE).of(":BucketObjectv2") if each.inputs["key"] == "config.json"]
    assert json.loads(config.inputs["content"]) == {
        "googleClientId": "1234-abc.apps.googleusercontent.com",
        "keysOnly": False,
    }
    assert config.inputs["cacheControl"] == "no-cache"
    assert config.inputs["contentType"] == "application/json; charset=utf-8"
