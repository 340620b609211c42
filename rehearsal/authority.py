"""Who may do what in the account: roles are assumed, their calls judged by the policies that the program gave them.

Not thread-safe: the account's one lock guards every call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from rehearsal.calls import Call
from rehearsal.iam import Ask, Grant, Unjudged, Verdict, granted, judge, trusts, without
from rehearsal.touched import asks_of

_TEMPORARY = "ASIA"  # how the id of every access key of an assumed role begins
_SESSION_S = 3600


class NotTrusted(Exception):
    """The role's trust policy does not let this service assume it."""


@dataclass(frozen=True)
class Credentials:
    """Of one assumed role, as the SDK takes them."""

    access_key_id: str
    secret_access_key: str
    session_token: str

    def environment(self) -> Mapping[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_SESSION_TOKEN": self.session_token,
        }


@dataclass(frozen=True)
class Denial:
    """One call that was not allowed."""

    role: str  # name
    session: str
    action: str
    resource: str
    why: str

    def __str__(self) -> str:
        """As AWS says it."""
        who = f"arn:aws:sts::{DEFAULT_ACCOUNT_ID}:assumed-role/{self.role}/{self.session}"
        return f"User: {who} is not authorized to perform: {self.action} on resource: {self.resource} {self.why}"


class Authority:
    """The roles of the account. Access keys of no role are the account's owner, who may do everything."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._services: dict[str, str] = {}  # who assumed the role, by access key
        self._denied: list[Denial] = []
        self._used: dict[str, dict[tuple[str, str], Ask]] = {}

    def assume(self, role: str, *, service: str, session: str) -> Credentials:
        """What ``service`` (as in ``ec2.amazonaws.com``) hands to what it starts; the role by ARN.

        Raises NotTrusted when the role's trust policy does not name the service.
        """
        found = self._iam.get_role_by_arn(role)
        if not trusts(found.assume_role_policy_document, service):
            raise NotTrusted(f"{role} cannot be assumed by {service}")
        made = self._sts.assume_role(
            region_name=self._region,
            role_session_name=session,
            role_arn=role,
            policy="",
            duration=_SESSION_S,
            external_id="",
        )
        self._services[made.access_key_id] = service
        return Credentials(made.access_key_id, made.secret_access_key, made.session_token)

    def refusal(self, call: Call) -> Denial | None:
        """None for a call that may happen; its actions count as used. What cannot be judged is denied and says so."""
        if not call.key_id.startswith(_TEMPORARY):
            return None
        session = self._sts.get_assumed_role_from_access_key(call.key_id)
        if session is None:
            return self._deny("unknown", call.key_id, Ask(call.name), "because the access key is nobody's")
        role = self._iam.get_role_by_arn(session.role_arn)
        try:
            for ask in asks_of(call, self._context(session, role)):
                verdict = judge(_documents(role), ask)
                if verdict is not Verdict.ALLOWED:
                    return self._deny(role.name, session.session_name, ask, verdict)
                self._used.setdefault(role.name, {})[ask.action, ask.resource] = ask
        except Unjudged as error:
            return self._deny(role.name, session.session_name, Ask(call.name), f"because nobody can judge: {error}")
        return None

    def denied(self) -> Sequence[Denial]:
        return list(self._denied)

    def used(self, role: str) -> frozenset[str]:
        """The actions that the role, by name, was allowed and took."""
        return frozenset(action for action, _ in self._used.get(role, {}))

    def unused(self, role: str) -> frozenset[Grant]:
        """What the role's policies allow and the role never did."""
        asks = self._used.get(role, {}).values()
        grants = granted(_documents(self._iam.get_role(role)))
        return frozenset(grant for grant in grants if not any(grant.covers(ask) for ask in asks))

    def revoke(self, role: str, action: str) -> None:
        """Take an action, spelled as it was granted, out of the role's own policies.

        Raises KeyError for one that none of them grants.
        """
        policies = self._iam.get_role(role).policies
        changed = {name: without(text, action) for name, text in policies.items()}
        if changed == dict(policies):
            raise KeyError(f"{role} is not granted {action}")
        policies.update(changed)

    def roles(self) -> Sequence[str]:
        """The names of all roles."""
        return sorted(role.name for role in self._iam.get_roles())

    def role_of_profile(self, profile: str) -> str | None:
        """The ARN of an instance profile's role; the profile by ARN or name."""
        for known in self._iam.get_instance_profiles():
            if profile in (known.arn, known.name) and known.roles:
                return str(known.roles[0].arn)
        return None

    def _context(self, session: Any, role: Any) -> Mapping[str, Sequence[str]]:
        keys = {
            "aws:principalaccount": [DEFAULT_ACCOUNT_ID],
            "aws:principalarn": [role.arn],
            "aws:requestedregion": [self._region],
            "aws:userid": [f"{role.id}:{session.session_name}"],
        }
        if self._services.get(session.access_key_id) == "ec2.amazonaws.com":
            arn = f"arn:aws:ec2:{self._region}:{DEFAULT_ACCOUNT_ID}:instance/{session.session_name}"
            keys["ec2:sourceinstancearn"] = [arn]
        return keys

    def _deny(self, role: str, session: str, ask: Ask, why: str) -> Denial:
        denial = Denial(role, session, ask.action, ask.resource, why)
        self._denied.append(denial)
        return denial

    @property
    def _iam(self) -> Any:
        return iam_backends[DEFAULT_ACCOUNT_ID]["aws"]

    @property
    def _sts(self) -> Any:
        return sts_backends[DEFAULT_ACCOUNT_ID]["aws"]


def _documents(role: Any) -> Sequence[str]:
    """Every policy of the role, its own and those attached to it."""
    return [*role.policies.values(), *(policy.document for policy in role.managed_policies.values())]
