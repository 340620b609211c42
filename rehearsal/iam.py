"""What IAM says to one request of a role: its identity-based policies, evaluated as AWS does. Pure.

Nothing passes because it was not understood: an element, an operator, a condition key or a variable that is not known
here raises Unjudged. Not evaluated: policies of resources (buckets, repositories, functions, keys), conditions of trust
policies, permission boundaries, organisations. Of what the program makes of these, tests/infra looks at the texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
_VARIABLE = re.compile(r"\$\{([^}]*)\}")

KNOWN_KEYS = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:requestedregion",
        "aws:userid",
        "dynamodb:leadingkeys",
        "ec2:sourceinstancearn",
        "ecs:cluster",
        "iam:awsservicename",
        "iam:passedtoservice",
        "s3:prefix",
    }
)
"""The condition keys, in lower case, of which it is known here whether a request has them; and tags, see ``Ask``."""

_TAG_KEYS = ("aws:resourcetag/", "autoscaling:resourcetag/", "ecs:resourcetag/", "ec2:resourcetag/")


class Unjudged(Exception):
    """A request or a policy that nobody taught the rehearsal to judge; the message says what."""


class Verdict(StrEnum):
    """In the words that follow in AWS's own message."""

    ALLOWED = "allowed"
    NOT_ALLOWED = "because no identity-based policy allows the action"
    DENIED = "with an explicit deny in an identity-based policy"


@dataclass(frozen=True)
class Ask:
    """One permission that a call needs."""

    action: str  # as in policies: "dynamodb:PutItem"
    resource: str = "*"  # an ARN; "*" for actions that take none
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by keys of KNOWN_KEYS; absent, it has none
    tags: Mapping[str, str] | None = None  # of the resource; None where nobody looked


def judge(documents: Iterable[str], ask: Ask) -> Verdict:
    """The verdict of all policy documents (JSON) of one role together. Raises Unjudged."""
    applying = [statement for text in documents for statement in _statements(text) if _applies(statement, ask)]
    if any(statement["Effect"] == "Deny" for statement in applying):
        return Verdict.DENIED
    return Verdict.ALLOWED if applying else Verdict.NOT_ALLOWED


@dataclass(frozen=True)
class Grant:
    """One action, or pattern of actions, that a policy allows on one resource, or pattern of resources."""

    action: str
    resource: str

    def covers(self, ask: Ask) -> bool:
        return covers(self.action, ask.action) and _any_like([self.resource], ask.resource, ask)


def granted(documents: Iterable[str]) -> frozenset[Grant]:
    """Everything that some statement allows, whatever its conditions. Raises Unjudged for Not… in an Allow."""
    allowing = [statement for text in documents for statement in _statements(text) if statement["Effect"] == "Allow"]
    if any(statement.keys() & {"NotAction", "NotResource"} for statement in allowing):
        raise Unjudged("what an Allow with NotAction or NotResource grants has no list")
    return frozenset(
        Grant(action, resource)
        for statement in allowing
        for action in _listed(statement["Action"])
        for resource in _listed(statement["Resource"])
    )


def without(document: str, action: str) -> str:
    """The policy without this action, which is spelled as the policy spells it; the same text where it has no such."""
    policy = json.loads(document)
    statements = _listed(policy["Statement"])
    if not any(action in _listed(statement.get("Action", [])) for statement in statements):
        return document
    kept = [
        {**statement, "Action": [each for each in _listed(statement.get("Action", [])) if each != action]}
        for statement in statements
    ]
    return json.dumps({**policy, "Statement": [statement for statement in kept if statement["Action"]]})


def covers(pattern: str, action: str) -> bool:
    """True when the action of a policy, such as ``ec2:Describe*``, means this one."""
    return _like(pattern.lower(), action.lower())


def trusts(document: str, service: str) -> bool:
    """True when a role's trust policy lets a service of AWS assume it. Raises Unjudged."""
    for statement in _listed(json.loads(document)["Statement"]):
        if statement.keys() - {"Sid", "Effect", "Action", "Principal", "Condition"}:
            raise Unjudged(f"a trust policy with {sorted(statement)}")
        principals = statement["Principal"]
        services = _listed(principals.get("Service", [])) if isinstance(principals, dict) else []
        # Conditions of a trust policy (aws:SourceAccount and the like) are about calls that no desk can make.
        if statement["Effect"] == "Allow" and service in services and "sts:AssumeRole" in _listed(statement["Action"]):
            return True
    return False


@lru_cache(maxsize=256)
def _statements(text: str) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = _listed(json.loads(text)["Statement"])
    for statement in found:
        if foreign := statement.keys() - _ELEMENTS:
            raise Unjudged(f"a statement with {', '.join(sorted(foreign))}")
        if statement["Effect"] not in ("Allow", "Deny"):
            raise Unjudged(f"the effect {statement['Effect']}")
    return found


def _applies(statement: Mapping[str, Any], ask: Ask) -> bool:
    if "Action" in statement:
        acts = any(covers(pattern, ask.action) for pattern in _listed(statement["Action"]))
    else:
        acts = not any(covers(pattern, ask.action) for pattern in _listed(statement["NotAction"]))
    if not acts:
        return False
    if "Resource" in statement:
        meant = _any_like(_listed(statement["Resource"]), ask.resource, ask)
    else:
        meant = not _any_like(_listed(statement["NotResource"]), ask.resource, ask)
    return meant and all(
        _holds(operator, key, expected=[_text(value) for value in _listed(values)], ask=ask)
        for operator, entries in statement.get("Condition", {}).items()
        for key, values in entries.items()
    )


# -- conditions ----------------------------------------------------------------------------------------------------


def _holds(operator: str, key: str, *, expected: Sequence[str], ask: Ask) -> bool:
    """One line of a condition. Without its key, a request fulfils what is negated, IfExists and ForAllValues."""
    quantifier, _, name = operator.rpartition(":")
    base = name.removesuffix("IfExists")
    if quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise Unjudged(f"the condition operator {operator}")
    values = _values(key, ask)
    if base == "Null":
        return (not values) == (expected[0].lower() == "true")
    test, negated = _test(base, operator)
    if not values:
        return name.endswith("IfExists") or quantifier == "ForAllValues" or (negated and quantifier == "")
    if len(values) > 1 and not quantifier:
        raise Unjudged(f"{operator} of {key}, which has several values")
    texts = [text for pattern in expected if (text := _expanded(pattern, ask)) is not None]
    fits = [any(test(text, value) for text in texts) != negated for value in values]
    return any(fits) if quantifier == "ForAnyValue" else all(fits)


def _values(key: str, ask: Ask) -> Sequence[str]:
    lower = key.lower()
    for prefix in _TAG_KEYS:
        if lower.startswith(prefix):
            if ask.tags is None:
                raise Unjudged(f"{key} in a condition on {ask.action}: the tags of {ask.resource} are not known")
            tag = key[len(prefix) :]
            return [ask.tags[tag]] if tag in ask.tags else []
    if lower not in KNOWN_KEYS:
        raise Unjudged(f"the condition key {key}")
    return ask.context.get(lower, ())


_Test = Callable[[str, str], bool]  # a value of the policy, a value of the request


def _test(base: str, operator: str) -> tuple[_Test, bool]:
    """How two values are compared, and whether the outcome is turned round. Raises Unjudged."""
    negated = "Not" in base
    test = _TESTS.get(base.replace("Not", "", 1))
    if test is None or (base.startswith("Bool") and negated):
        raise Unjudged(f"the condition operator {operator}")
    return test, negated


def _like(pattern: str, value: str) -> bool:
    return _glob(pattern).fullmatch(value) is not None


def _arn_like(pattern: str, value: str) -> bool:
    """Each of the six parts by itself: a star reaches no further than its part."""
    parts, given = pattern.split(":", 5), value.split(":", 5)
    return len(parts) == len(given) and all(map(_like, parts, given))


_TESTS: Mapping[str, _Test] = {
    "StringEquals": lambda pattern, value: pattern == value,
    "StringEqualsIgnoreCase": lambda pattern, value: pattern.lower() == value.lower(),
    "StringLike": _like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda pattern, value: pattern.lower() == value.lower(),
    "NumericEquals": lambda pattern, value: float(value) == float(pattern),
    "NumericLessThan": lambda pattern, value: float(value) < float(pattern),
    "NumericLessThanEquals": lambda pattern, value: float(value) <= float(pattern),
    "NumericGreaterThan": lambda pattern, value: float(value) > float(pattern),
    "NumericGreaterThanEquals": lambda pattern, value: float(value) >= float(pattern),
}


# -- texts ---------------------------------------------------------------------------------------------------------


def _any_like(patterns: Sequence[str], value: str, ask: Ask) -> bool:
    return any(_like(text, value) for pattern in patterns if (text := _expanded(pattern, ask)) is not None)


def _expanded(pattern: str, ask: Ask) -> str | None:
    """The pattern with its variables filled in; None when the request lacks one: then it matches nothing."""
    if "${" not in pattern:
        return pattern
    values = {name: _values(name, ask) for name in _VARIABLE.findall(pattern)}
    return _VARIABLE.sub(lambda found: values[found[1]][0], pattern) if all(values.values()) else None


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _listed(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
