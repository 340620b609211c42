"""The CDN, as far as browsers see it: the site's files with the headers, the rewriting and the paths that the program
registered. Everything else goes to the load balancer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi

from rehearsal.stack import Stack

_DISTRIBUTION = "aws:cloudfront/distribution:Distribution"
_FUNCTION = "aws:cloudfront/function:Function"
_HEADERS = "aws:cloudfront/responseHeadersPolicy:ResponseHeadersPolicy"
_OBJECT = "aws:s3/bucketObjectv2:BucketObjectv2"

# CloudFront's own words for them.
_SECURITY_HEADERS = {
    "contentSecurityPolicy": ("Content-Security-Policy", "contentSecurityPolicy"),
    "frameOptions": ("X-Frame-Options", "frameOption"),
    "referrerPolicy": ("Referrer-Policy", "referrerPolicy"),
}


@dataclass(frozen=True)
class Page:
    """What a browser gets."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Edge:
    """One distribution: which requests are the site's, and what they get."""

    def __init__(
        self,
        objects: Mapping[str, Mapping[str, Any]],
        *,
        api_paths: Sequence[str],
        headers: Mapping[str, str],
        file_name: re.Pattern[str],
    ) -> None:
        """``objects`` by key, as they were registered; ``file_name`` tells a file's path from one of the app's."""
        self._objects = objects
        self._api = tuple(path.removesuffix("*") for path in api_paths)
        self._headers = headers
        self._file_name = file_name

    @classmethod
    def of(cls, stack: Stack) -> Edge:
        """As the program made it."""
        (distribution,) = stack.made[_DISTRIBUTION]
        (function,) = stack.made[_FUNCTION]
        (policy,) = stack.made[_HEADERS]
        site = {origin["domainName"].partition(".")[0] for origin in distribution["origins"]}
        return cls(
            {each["key"]: each for each in stack.made[_OBJECT] if each["bucket"] in site},
            api_paths=[each["pathPattern"] for each in distribution["orderedCacheBehaviors"]],
            headers=_headers(policy),
            file_name=_file_name(function["code"]),
        )

    def page(self, method: str, path: str) -> Page | None:
        """None: the request is the API's."""
        if path.startswith(self._api):
            return None
        if method not in ("GET", "HEAD"):
            return Page(403, self._headers, b"")  # CloudFront's answer to a method that a behaviour does not allow
        key = path.lstrip("/") if self._file_name.search(path) else "index.html"
        found = self._objects.get(key)
        if found is None:
            return Page(403, self._headers, b"")  # S3's, to who may read objects and not list them
        headers = {**self._headers, "Content-Type": found["contentType"], "Cache-Control": found["cacheControl"]}
        return Page(200, headers, b"" if method == "HEAD" else _body(found))


def _headers(policy: Mapping[str, Any]) -> Mapping[str, str]:
    """Without the one about TLS: there is none on a desk."""
    security = policy["securityHeadersConfig"]
    named = {name: security[key][field] for key, (name, field) in _SECURITY_HEADERS.items()}
    custom = {each["header"]: each["value"] for each in policy["customHeadersConfig"]["items"]}
    return {**named, **custom, "X-Content-Type-Options": "nosniff"}


def _file_name(code: str) -> re.Pattern[str]:
    """The one pattern of the function: JavaScript's and Python's way of writing it are the same."""
    found = re.search(r"^const FILE = /(.+)/;$", code, re.MULTILINE)
    assert found, "the edge's function no longer tells files by the pattern FILE"
    return re.compile(found[1])


def _body(found: Mapping[str, Any]) -> bytes:
    source = found.get("source")
    if isinstance(source, pulumi.FileAsset):
        return Path(source.path).read_bytes()
    return str(found["content"]).encode()
