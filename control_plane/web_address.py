"""Which addresses of the web are called at all: over TLS, or on loopback where a desk does without. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_safe(url: str, *, plain_http: bool = False) -> bool:
    """``plain_http``: loopback may do without TLS."""
    try:
        told = urlsplit(url)
        host = told.hostname or ""
    except ValueError:
        return False
    if told.scheme == "https":
        return bool(host)
    return plain_http and told.scheme == "http" and _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
