"""Policies are evaluated as AWS does, and what is not understood is never passed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from rehearsal.iam import Ask, Grant, Unjudged, Verdict, granted, judge, trusts

TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/desk-models"
OTHER = "arn:aws:dynamodb:us-east-1:123456789012:table/desk-keys"
GROUP = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:2f7a:autoScalingGroupName/desk-small"


def statement(**changes: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": ["dynamodb:GetItem"], "Resource": [TABLE], **changes}


def policy(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def read(resource: str = TABLE, **context: Sequence[str]) -> Ask:
    return Ask("dynamodb:GetItem", resource, {key.replace("__", ":"): values for key, values in context.items()})


def test_what_a_policy_allows_is_allowed_and_nothing_else() -> None:
    documents = [policy(statement())]
    assert judge(documents, read()) is Verdict.ALLOWED
    assert judge(documents, Ask("dynamodb:PutItem", TABLE)) is Verdict.NOT_ALLOWED
    assert judge(documents, read(OTHER)) is Verdict.NOT_ALLOWED
    assert judge([], read()) is Verdict.NOT_ALLOWED


def test_a_deny_wins_over_every_allow_wherever_it_stands() -> None:
    deny = policy(statement(Effect="Deny", Action="dynamodb:*", Resource="*"))
    assert judge([policy(statement()), deny], read()) is Verdict.DENIED
    assert judge([deny, policy(statement())], read()) is Verdict.DENIED


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        ("dynamodb:*", True),
        ("dynamodb:Get*", True),
        ("dynamodb:GetIte?", True),
        ("DynamoDB:getitem", True),
        ("*", True),
        ("dynamodb:Put*", False),
        ("ec2:*", False),
    ],
)
def test_actions_are_patterns_of_any_case(action: str, allowed: bool) -> None:
    assert (judge([policy(statement(Action=action))], read()) is Verdict.ALLOWED) == allowed


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        ("*", True),
        (TABLE[:-6] + "*", True),
        ([OTHER, TABLE], True),
        (TABLE.upper(), False),
        (TABLE + "/index/*", False),
        (OTHER, False),
    ],
)
def test_resources_are_patterns_of_their_very_case(resource: object, allowed: bool) -> None:
    assert (judge([policy(statement(Resource=resource))], read()) is Verdict.ALLOWED) == allowed


def test_an_action_without_a_resource_needs_a_star() -> None:
    describe = Ask("autoscaling:DescribeAutoScalingGroups")
    allow = statement(Action="autoscaling:Describe*")
    assert judge([policy({**allow, "Resource": "*"})], describe) is Verdict.ALLOWED
    assert judge([policy({**allow, "Resource": [GROUP]})], describe) is Verdict.NOT_ALLOWED


def test_not_action_and_not_resource_mean_all_the_others() -> None:
    others = {"Effect": "Allow", "NotAction": ["dynamodb:PutItem"], "NotResource": [OTHER]}
    assert judge([policy(others)], read()) is Verdict.ALLOWED
    assert judge([policy(others)], read(OTHER)) is Verdict.NOT_ALLOWED
    assert judge([policy(others)], Ask("dynamodb:PutItem", TABLE)) is Verdict.NOT_ALLOWED


def test_a_tag_of_the_resource_decides() -> None:
    launch = statement(
        Action="autoscaling:LaunchInstances",
        Resource="*",
        Condition={"StringEquals": {"aws:ResourceTag/diogenes": "desk"}},
    )

    def verdict(tags: Mapping[str, str] | None) -> Verdict:
        return judge([policy(launch)], Ask("autoscaling:LaunchInstances", GROUP, tags=tags))

    assert verdict({"diogenes": "desk"}) is Verdict.ALLOWED
    assert verdict({"diogenes": "prod"}) is Verdict.NOT_ALLOWED
    assert verdict({}) is Verdict.NOT_ALLOWED
    with pytest.raises(Unjudged, match="tags of"):
        verdict(None)


@pytest.mark.parametrize(
    ("keys", "allowed"), [(["small"], True), (["other"], False), (["small", "other"], False), ([], True)]
)
def test_leading_keys_bound_a_role_to_its_rows(keys: list[str], allowed: bool) -> None:
    """Without a key, as in a Scan, ForAllValues holds: that is AWS's trap, and why nobody there may Scan."""
    own = statement(Condition={"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["small"]}})
    assert (judge([policy(own)], read(dynamodb__leadingkeys=keys)) is Verdict.ALLOWED) == allowed


CONDITIONS: Sequence[tuple[str, object, Sequence[str], bool]] = [
    # operator, the policy's value, the request's values, whether it holds
    ("StringEquals", "a", ["a"], True),
    ("StringEquals", ["a", "b"], ["b"], True),
    ("StringEquals", "a", ["A"], False),
    ("StringEqualsIgnoreCase", "a", ["A"], True),
    ("StringEquals", "a", [], False),
    ("StringEqualsIfExists", "a", [], True),
    ("StringEqualsIfExists", "a", ["b"], False),
    ("StringNotEquals", ["a", "b"], ["b"], False),
    ("StringNotEquals", "a", ["b"], True),
    ("StringNotEquals", "a", [], True),
    ("StringLike", "a*", ["abc"], True),
    ("StringLike", "a?", ["abc"], False),
    ("StringNotLike", "a*", ["abc"], False),
    ("ArnLike", "arn:aws:iam::*:role/x", ["arn:aws:iam::123456789012:role/x"], True),
    ("ArnLike", "arn:aws:*:role/x", ["arn:aws:iam::123456789012:role/x"], False),
    ("ArnNotEquals", "arn:aws:iam::1:role/x", ["arn:aws:iam::2:role/x"], True),
    ("Bool", "true", ["true"], True),
    ("Bool", True, ["false"], False),
    ("Null", "true", [], True),
    ("Null", "true", ["a"], False),
    ("Null", "false", ["a"], True),
    ("NumericLessThan", "10", ["9"], True),
    ("NumericLessThan", "10", ["10"], False),
    ("NumericGreaterThanEquals", 10, ["10"], True),
    ("NumericNotEquals", "10", ["10.0"], False),
    ("ForAnyValue:StringEquals", ["a", "b"], ["b", "c"], True),
    ("ForAnyValue:StringEquals", "a", [], False),
    ("ForAllValues:StringLike", ["a*", "b"], ["ab", "b"], True),
]


@pytest.mark.parametrize(("operator", "expected", "values", "holds"), CONDITIONS)
def test_conditions_hold_as_on_aws(operator: str, expected: object, values: Sequence[str], holds: bool) -> None:
    conditioned = statement(Condition={operator: {"aws:PrincipalArn": expected}})
    assert (judge([policy(conditioned)], read(aws__principalarn=values)) is Verdict.ALLOWED) == holds


def test_all_conditions_must_hold() -> None:
    both = {"StringEquals": {"aws:PrincipalAccount": "1", "aws:RequestedRegion": "us-east-1"}}
    documents = [policy(statement(Condition=both))]
    ask = read(aws__principalaccount=["1"], aws__requestedregion=["us-east-1"])
    assert judge(documents, ask) is Verdict.ALLOWED
    assert judge(documents, read(aws__principalaccount=["1"])) is Verdict.NOT_ALLOWED


def test_a_variable_stands_for_what_the_request_brings_and_matches_nothing_without() -> None:
    own = policy(statement(Resource="arn:aws:s3:::files/${aws:userid}/*", Action="s3:GetObject"))
    mine = Ask("s3:GetObject", "arn:aws:s3:::files/AROA:i-1/x", {"aws:userid": ["AROA:i-1"]})
    assert judge([own], mine) is Verdict.ALLOWED
    assert judge([own], Ask("s3:GetObject", "arn:aws:s3:::files/AROA:i-2/x", mine.context)) is Verdict.NOT_ALLOWED
    assert judge([own], Ask("s3:GetObject", mine.resource)) is Verdict.NOT_ALLOWED


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"Condition": {"DateLessThan": {"aws:PrincipalArn": "2030"}}}, "operator DateLessThan"),
        ({"Condition": {"IpAddress": {"aws:PrincipalArn": "10.0.0.0/8"}}}, "operator IpAddress"),
        ({"Condition": {"StringEquals": {"aws:SourceVpce": "vpce-1"}}}, "key aws:SourceVpce"),
        ({"Condition": {"ForSomeValues:StringEquals": {"aws:PrincipalArn": "x"}}}, "operator ForSomeValues"),
        ({"Principal": "*"}, "a statement with Principal"),
        ({"Effect": "Perhaps"}, "effect Perhaps"),
        ({"Resource": "arn:aws:s3:::${aws:username}"}, "key aws:username"),
    ],
)
def test_what_is_not_understood_is_never_passed(changes: Mapping[str, Any], says: str) -> None:
    with pytest.raises(Unjudged, match=says):
        judge([policy(statement(**changes))], read(aws__principalarn=["x"]))


def test_several_values_without_a_quantifier_are_not_guessed_at() -> None:
    vague = policy(statement(Condition={"StringEquals": {"dynamodb:LeadingKeys": "a"}}))
    with pytest.raises(Unjudged, match="several values"):
        judge([vague], read(dynamodb__leadingkeys=["a", "b"]))


def test_what_is_granted_is_listed_without_what_is_denied() -> None:
    documents = [policy(statement(Action=["a:One", "a:Two*"])), policy(statement(Effect="Deny", Action="b:Three"))]
    assert granted(documents) == {Grant("a:One", TABLE), Grant("a:Two*", TABLE)}
    assert Grant("a:Two*", "*").covers(Ask("a:TwoFold", TABLE))
    assert not Grant("a:One", OTHER).covers(Ask("a:One", TABLE))
    with pytest.raises(Unjudged, match="NotAction"):
        granted([policy({"Effect": "Allow", "NotAction": "a:One", "Resource": "*"})])


def test_a_role_is_trusted_to_the_services_that_its_policy_names() -> None:
    allow = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
    assert trusts(policy(allow), "ec2.amazonaws.com")
    assert not trusts(policy(allow), "ecs-tasks.amazonaws.com")
    assert not trusts(policy({**allow, "Effect": "Deny"}), "ec2.amazonaws.com")
    assert not trusts(policy({**allow, "Principal": "*"}), "ec2.amazonaws.com")
