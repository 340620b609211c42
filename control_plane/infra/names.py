"""Names that more than one component spells. All within AWS's limits for a namespace of up to 24 characters."""

from __future__ import annotations


def cluster_name(namespace: str) -> str:
    """The ECS cluster."""
    return namespace


def service_name(namespace: str) -> str:
    """The ECS service, and the family of its task definition: a wake names the family to take the newest one."""
    return f"{namespace}-control"
