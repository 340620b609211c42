"""What is given to browsers and must come back unchanged: text with a MAC, so that forgeries cost no look-up."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac


class BrokenSeal(ValueError):
    """Not sealed here, not for this purpose, or changed since."""


class Seal:
    """Seals under one secret; each ``purpose`` has a key of its own, so that one thing never passes for another."""

    def __init__(self, secret: str) -> None:
        """Raises ValueError for a secret that is too short to be one."""
        if len(secret) < 32:
            raise ValueError("the secret that seals cookies is shorter than 32 characters")
        self._secret = secret.encode()

    def close(self, purpose: str, text: str) -> str:
        """Letters, digits, ``-``, ``_`` and one dot."""
        body = _encode(text.encode())
        return f"{body}.{_encode(self._mac(purpose, body))}"

    def open(self, purpose: str, sealed: str) -> str:
        """The text. Raises BrokenSeal."""
        body, _, mac = sealed.partition(".")
        expected = _encode(self._mac(purpose, body))
        if not hmac.compare_digest(expected.encode(), mac.encode()):
            raise BrokenSeal
        try:
            return _decode(body).decode()
        except (binascii.Error, ValueError) as error:  # sealed here, so never
            raise BrokenSeal from error

    def _mac(self, purpose: str, body: str) -> bytes:
        key = hmac.digest(self._secret, purpose.encode(), "sha256")
        return hmac.digest(key, body.encode(), "sha256")


def digest(text: str) -> str:
    """SHA-256, hex: under which what is secret is kept."""
    return hashlib.sha256(text.encode()).hexdigest()


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
