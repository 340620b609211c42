"""The recorder that the infrastructure's tests stand on sees what they ask it for."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
import pytest

from tests.infra.component import ACCOUNT, run_component


def test_a_registration_tells_its_secrets_options_and_where_its_inputs_come_from() -> None:
    def build() -> None:
        bucket = aws.s3.Bucket("bucket", bucket="weights")
        role = aws.iam.Role("role", assume_role_policy="{}")
        aws.ssm.Parameter(
            "token",
            type="SecureString",
            name=bucket.arn,
            value=pulumi.Output.secret("hf_abc"),
            opts=pulumi.ResourceOptions(depends_on=[role], ignore_changes=["value"]),
        )

    made = run_component(build)
    token, bucket, role = made.one(":Parameter"), made.one(":Bucket"), made.one(":Role")
    assert token.inputs == {"type": "SecureString", "name": "arn:aws:s3:::weights", "value": "hf_abc"}
    assert token.secrets == {"value"}
    assert list(token.ignore_changes) == ["value"]
    assert token.input_dependencies["name"] == {bucket.urn}
    assert token.explicit_dependencies == {role.urn}
    assert (bucket.id, role.state["arn"]) == ("weights", f"arn:aws:iam::{ACCOUNT}:role/{role.id}")


def test_a_component_has_children_and_outputs() -> None:
    def build() -> None:
        component = pulumi.ComponentResource("diogenes:test:Component", "whole")
        part = aws.s3.Bucket("part", opts=pulumi.ResourceOptions(parent=component))
        component.register_outputs({"arn": part.arn, "limit": 3})

    made = run_component(build)
    whole, part = made.one(":Component"), made.one(":Bucket")
    assert part.parent == whole.urn
    assert made.outputs(whole) == {"arn": part.state["arn"], "limit": 3}


def test_a_question_without_an_answer_fails_and_names_the_function() -> None:
    def build() -> None:
        aws.ec2.get_vpc(id="vpc-1")

    with pytest.raises(Exception, match="getVpc"):
        run_component(build)


def test_an_answer_can_be_the_tests_own() -> None:
    def build() -> None:
        zones = aws.get_availability_zones(state="available")
        aws.s3.Bucket("bucket", bucket="-".join(zones.names))

    made = run_component(build, calls={":getAvailabilityZones": lambda _: {"names": ["a", "b"]}})
    assert made.one(":Bucket").inputs["bucket"] == "a-b"
