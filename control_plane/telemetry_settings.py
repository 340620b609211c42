"""The settings of who may watch from within, and where traces go: their names, and how they are read. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from control_plane.configuration import Values, set_value

NAMES = ("metricsFrom", "tracesEndpoint")
HEADERS = "tracesHeaders"  # a secret

_GROUP = r"sg-([0-9a-f]{8}|[0-9a-f]{17})"
_OURS = r"10\.\d{1,3}|172\.(1[6-9]|2\d|3[01])|192\.168|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])"
_RANGE = rf"({_OURS})(\.\d{{1,3}}){{2}}/([89]|[12]\d|3[0-2])"
_ENDPOINT = r"https://[^\s/?#@:]+\.[^\s/?#@:]+(/[^\s?#]*)?"

_RANGE_EXAMPLE = "10.40.0.0/16"


@dataclass(frozen=True)
class Telemetry:
    """Who may ask for metrics, besides nobody, and where traces go."""

    metrics_from: str | None = None  # a security group, or a private range of addresses
    traces_endpoint: str | None = None


NONE = Telemetry()


def read(values: Values) -> Telemetry:
    source = values.text("metricsFrom", pattern=f"{_GROUP}|{_RANGE}", example=_RANGE_EXAMPLE)
    if source and "/" in source and not _is_range(source):
        values.refuse(f"metricsFrom is {source}, which is no range", set_value("metricsFrom", _RANGE_EXAMPLE))
    # The control plane's security group lets it out to port 443 alone.
    endpoint = values.text("tracesEndpoint", pattern=_ENDPOINT, example="https://otlp.example.org/v1/traces")
    return Telemetry(source, endpoint)


def _is_range(text: str) -> bool:
    try:
        return ipaddress.ip_network(text).is_private
    except ValueError:
        return False
