"""Notices as JSON to an address of the deployer's own: signed, over TLS, without redirects, in some seconds.

Signed as Standard Webhooks has it (https://www.standardwebhooks.com), for which there are libraries in most languages.
The address is a secret like the key: whoever knows it may write to that chat.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable

import aiohttp
import orjson

from control_plane.errors import Unavailable
from control_plane.notice import Notice, Target
from control_plane.ports import Clock
from control_plane.web_address import is_safe

LIMIT_S = 5.0


class Webhook:
    """A Channel over HTTP. ``target`` is asked once there is something to send."""

    name = "webhook"

    def __init__(
        self,
        http: aiohttp.ClientSession,
        target: Callable[[], Awaitable[Target]],
        *,
        clock: Clock,
        plain_http: bool = False,
    ) -> None:
        """``plain_http``: an address on loopback may do without TLS."""
        self._http = http
        self._target = target
        self._clock = clock
        self._plain_http = plain_http

    async def send(self, notice: Notice) -> None:
        """Nothing of the address is in any error."""
        target = await self._target()
        if not is_safe(target.url, plain_http=self._plain_http):
            raise Unavailable("the webhook's address is not https")
        body = orjson.dumps(notice.to_dict())
        timestamp = str(int(self._clock()))
        headers = {
            "content-type": "application/json",
            "user-agent": "diogenes",
            "webhook-id": notice.id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(target.key, notice.id, timestamp, body),
        }
        try:
            async with self._http.post(
                target.url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=LIMIT_S),
            ) as reply:
                status = reply.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the webhook did not answer: {type(error).__name__}") from None  # it names the address
        if not 200 <= status < 300:
            raise Unavailable(f"the webhook answered {status}")


def signature(key: str, notice_id: str, timestamp: str, body: bytes) -> str:
    """Of one message, as its header has it. Raises Unavailable for a key that is no base64."""
    try:
        secret = base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise Unavailable("the webhook's key is no base64") from error
    signed = hmac.digest(secret, f"{notice_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"
