"""What a load balancer says to a Lambda target, and what it makes of the reply: AWS's documented formats (pure).

Written for a target group with ``lambda.multi_value_headers.enabled``: names come with all their values.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LIMIT_BYTES = 1024 * 1024
"""Of a request's body, and of the JSON of a reply, to and from a Lambda target."""

TOO_LARGE = (
    "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n"
    "<body>\r\n<center><h1>413 Request Entity Too Large</h1></center>\r\n</body>\r\n</html>\r\n"
)
"""What the client of a larger request is told: nothing of ours."""

_TEXT = ("text/", "application/json", "application/javascript", "application/xml")


class BadReply(Exception):
    """The function's reply is not what a load balancer understands: its client gets a 502."""


@dataclass(frozen=True)
class Reply:
    """What the client gets."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def event(
    method: str,
    path: str,
    *,
    query: str = "",
    headers: Iterable[tuple[str, str]] = (("host", "diogenes"),),
    body: bytes = b"",
    group: str = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/night/1",
) -> dict[str, Any]:
    """One request as the function sees it; ``path`` and ``query`` as they were on the wire."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)
    asked: dict[str, list[str]] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        asked.setdefault(name, []).append(value)  # as they are: a load balancer decodes nothing
    plain = _is_text(values)
    return {
        "requestContext": {"elb": {"targetGroupArn": group}},
        "httpMethod": method,
        "path": path,
        "multiValueQueryStringParameters": asked,
        "multiValueHeaders": values,
        "body": body.decode() if plain else base64.b64encode(body).decode(),
        "isBase64Encoded": not plain,
    }


def reply(result: Any) -> Reply:
    """Raises BadReply."""
    if not isinstance(result, Mapping) or not isinstance(result.get("statusCode"), int):
        raise BadReply("no statusCode")
    headers = [
        (name, str(value)) for name, values in (result.get("multiValueHeaders") or {}).items() for value in values
    ]
    text = result.get("body") or ""
    try:
        body = base64.b64decode(text, validate=True) if result.get("isBase64Encoded") else text.encode()
    except (binascii.Error, AttributeError) as error:
        raise BadReply("a body that cannot be read") from error
    if len(json.dumps(result, ensure_ascii=False).encode()) > LIMIT_BYTES:
        raise BadReply("a reply above the limit")
    return Reply(result["statusCode"], headers, body)


def _is_text(headers: Mapping[str, Sequence[str]]) -> bool:
    if "content-encoding" in headers:
        return False
    kind = (headers.get("content-type") or ["text/plain"])[0].lower()
    return kind.startswith(_TEXT)
