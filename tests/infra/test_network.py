"""Who may reach whom, and where subnets lie."""

from __future__ import annotations

import ipaddress

import pulumi
import pytest

from control_plane.schema import EXCLUDED_ZONE_IDS
from control_plane.settings import Settings
from gpu_node.protocol import ENGINE_PORT
from tests.infra.component import Registrations
from tests.infra.whole import CONFIGURATIONS, configured, ran, run_stack, stack_config

Rule = tuple[str, str, int]
"""From whom, to whom, on which port."""


def ways_in(registrations: Registrations) -> set[Rule]:
    groups = {each.urn: each.name.removeprefix("network-") for each in registrations.of(":SecurityGroup")}
    found = set()
    for rule in registrations.of(":SecurityGroupIngressRule"):
        given = rule.inputs
        assert given["fromPort"] == given["toPort"]
        assert given["ipProtocol"] == "tcp"
        (target,) = rule.input_dependencies["securityGroupId"]
        referenced = rule.input_dependencies.get("referencedSecurityGroupId", ())
        sources = [groups[urn] for urn in referenced]
        if not referenced and "referencedSecurityGroupId" in given:  # somebody else's
            sources.append(given["referencedSecurityGroupId"])
        sources += [given[key] for key in ("cidrIpv4", "cidrIpv6", "prefixListId") if key in given]
        found |= {(source, groups[target], given["fromPort"]) for source in sources}
    return found


@pytest.mark.parametrize("name", sorted(set(CONFIGURATIONS) - {"without a CDN", "watched"}))
def test_requests_come_from_cloudfront_through_the_load_balancer_and_the_control_plane_to_the_nodes(name: str) -> None:
    assert ways_in(configured(name).registrations) == {
        ("pl-3b927c52", "load-balancer", 80),
        ("load-balancer", "control-plane", Settings().port),
        ("control-plane", "nodes", ENGINE_PORT),
    }


def test_without_a_cdn_the_load_balancer_alone_is_open_to_the_world_on_https() -> None:
    assert ways_in(configured("without a CDN").registrations) == {
        ("0.0.0.0/0", "load-balancer", 443),
        ("load-balancer", "control-plane", Settings().port),
        ("control-plane", "nodes", ENGINE_PORT),
    }


def test_metrics_are_read_by_whom_the_operator_names_and_never_through_the_load_balancer() -> None:
    port = Settings().metrics_port
    assert port != Settings().port
    watched = configured("watched").registrations
    assert ways_in(watched) - ways_in(configured("as published").registrations) == {
        ("10.40.0.0/16", "control-plane", port)
    }
    assert ("sg-0123456789abcdef0", "control-plane", port) in ways_in(
        ran(metricsFrom="sg-0123456789abcdef0").registrations
    )
    for registrations in (watched, configured("as published").registrations):
        ports = {group.inputs.get("port") for group in registrations.of("lb/targetGroup:TargetGroup")}
        ports |= {rule.inputs["fromPort"] for rule in registrations.of(":SecurityGroupEgressRule")}
        assert port not in ports


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_no_group_has_rules_that_are_not_rules_of_their_own(name: str) -> None:
    registrations = configured(name).registrations
    for group in [*registrations.of(":SecurityGroup"), registrations.one(":DefaultSecurityGroup")]:
        assert not {"ingress", "egress"} & group.inputs.keys()


def test_every_way_in_between_groups_is_a_way_out_too() -> None:
    registrations = configured("as published").registrations
    out = {
        (rule.input_dependencies["securityGroupId"], rule.input_dependencies["referencedSecurityGroupId"])
        for rule in registrations.of(":SecurityGroupEgressRule")
        if "referencedSecurityGroupId" in rule.inputs
    }
    into = {
        (rule.input_dependencies["referencedSecurityGroupId"], rule.input_dependencies["securityGroupId"])
        for rule in registrations.of(":SecurityGroupIngressRule")
        if "referencedSecurityGroupId" in rule.inputs
    }
    assert out == into


def test_the_load_balancer_speaks_to_the_control_plane_only() -> None:
    registrations = configured("as published").registrations
    balancer = registrations.one(":SecurityGroup", "network-load-balancer").urn
    out = [
        rule
        for rule in registrations.of(":SecurityGroupEgressRule")
        if balancer in rule.input_dependencies["securityGroupId"]
    ]
    assert [rule.name for rule in out] == ["network-load-balancer-to-control-plane-out"]


def test_there_is_no_nat_gateway_and_both_free_endpoints() -> None:
    registrations = configured("as published").registrations
    assert not registrations.of(":NatGateway")
    assert not registrations.of(":Eip")
    endpoints = registrations.of(":VpcEndpoint")
    assert {each.inputs["serviceName"] for each in endpoints} == {
        "com.amazonaws.us-east-1.s3",
        "com.amazonaws.us-east-1.dynamodb",
    }
    assert {each.inputs["vpcEndpointType"] for each in endpoints} == {"Gateway"}


def test_subnets_lie_apart_and_inside_the_network() -> None:
    registrations = ran(zones=6).registrations
    whole = ipaddress.ip_network(registrations.one(":Vpc").inputs["cidrBlock"])
    ranges = [ipaddress.ip_network(each.inputs["cidrBlock"]) for each in registrations.of(":Subnet")]
    assert len(ranges) == 6
    assert all(each.subnet_of(whole) for each in ranges)  # type: ignore[arg-type]  # all are of version 4
    assert not any(one.overlaps(other) for one in ranges for other in ranges if one is not other)


def test_zones_that_cloudfront_does_not_reach_are_not_asked_for() -> None:
    asked = dict(configured("as published").recorder.asked)
    told = next(arguments for token, arguments in asked.items() if token.endswith(":getAvailabilityZones"))
    assert told["excludeZoneIds"] == list(EXCLUDED_ZONE_IDS)
    assert "use1-az3" in told["excludeZoneIds"]
    assert told["filters"] == [{"name": "opt-in-status", "values": ["opt-in-not-required"]}]


def test_a_region_with_fewer_zones_than_wanted_gives_those_it_has() -> None:
    found = run_stack(stack_config(zones=6), getAvailabilityZones={"names": ["us-east-1b", "us-east-1a"]})
    zones = {each.inputs["availabilityZone"] for each in found.registrations.of(":Subnet")}
    assert zones == {"us-east-1a", "us-east-1b"}


def test_a_region_with_one_zone_cannot_be_used_and_the_way_out_is_told() -> None:
    with pytest.raises(pulumi.RunError, match="pulumi config set aws:region"):
        run_stack(stack_config(), getAvailabilityZones={"names": ["us-west-1a"]})


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_whatever_runs_is_gone_before_its_way_out(name: str) -> None:
    """Destroy goes backwards: a node that drains, and a task that ends its streams, need the network to their end."""
    registrations = configured(name).registrations
    kinds = (":InternetGateway", ":Route", ":RouteTableAssociation", ":VpcEndpoint")
    paths = {
        each.urn
        for kind in (*kinds, ":SecurityGroupIngressRule", ":SecurityGroupEgressRule")
        for each in registrations.of(kind)
    }
    for runs in [*registrations.of("autoscaling/group:Group"), registrations.one("ecs/service:Service")]:
        assert paths <= runs.explicit_dependencies
