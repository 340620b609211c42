"""What an instance is born with: the role in its instance profile, and what its user data writes for the agent."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from rehearsal.account import Account
from rehearsal.groups import Member
from rehearsal.imds import InstanceRole

_ENVIRONMENT = "/node.env"


@dataclass(frozen=True)
class Birth:
    """Of one instance, both by way of its group's launch template."""

    role: InstanceRole | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def birth(account: Account, member: Member) -> Birth:
    """Raises ApiError when no group has the instance any more, NotTrusted for a role that EC2 may not take."""
    environment = agent_environment(account.user_data(member.id))
    role = account.role_of(member.id)
    if role is None:
        return Birth(None, environment)
    credentials = account.assume(role, service="ec2.amazonaws.com", session=member.id)
    return Birth(InstanceRole(role.rpartition("/")[2], credentials), environment)


def agent_environment(user_data: str) -> Mapping[str, str]:
    """The variables that a cloud-config (in base64, as AWS keeps it) writes for the agent; none without user data.

    Raises ValueError when there is no such file in it.
    """
    if not user_data:
        return {}
    config = yaml.safe_load(base64.b64decode(user_data).decode())
    for file in config.get("write_files", []):
        if str(file["path"]).endswith(_ENVIRONMENT):
            lines = str(file["content"]).splitlines()
            return dict(line.split("=", 1) for line in lines if line)
    raise ValueError(f"the user data writes no {_ENVIRONMENT}")
