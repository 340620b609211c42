"""A node learns who it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from gpu_node.imds import Identity, MetadataUnavailable, endpoint, identify, taken_down

ANSWERS = {
    "instance-id": "i-0123",
    "local-ipv4": "10.1.2.3",
    "placement/availability-zone": "eu-west-1b",
    "instance-type": "g5.xlarge",
    "instance-life-cycle": "on-demand",
}

Service = Callable[[dict[str, str]], AbstractContextManager[str]]


def test_a_node_learns_its_name_its_address_and_how_it_was_bought(metadata_service: Service) -> None:
    with metadata_service(ANSWERS) as base:
        assert identify(base) == Identity("i-0123", "10.1.2.3", "eu-west-1b", "g5.xlarge", "on-demand")


DOCUMENT = "dynamic/instance-identity/document"


def test_a_node_learns_when_its_machine_was_launched(metadata_service: Service) -> None:
    with metadata_service(ANSWERS | {DOCUMENT: '{"pendingTime": "2026-11-29T12:00:00Z"}'}) as base:
        assert identify(base).launched_at == 1795953600.0


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"pendingTime": "soon"}', '{"pendingTime": null}'])
def test_a_launch_that_is_not_told_fails_no_start(metadata_service: Service, document: str) -> None:
    with metadata_service(ANSWERS | {DOCUMENT: document}) as base:
        assert identify(base).launched_at == 0.0


@pytest.mark.parametrize(("lifecycle", "market"), [("spot", "spot"), ("scheduled", "on-demand")])
def test_only_a_spot_instance_is_on_the_spot_market(metadata_service: Service, lifecycle: str, market: str) -> None:
    with metadata_service(ANSWERS | {"instance-life-cycle": lifecycle}) as base:
        assert identify(base).market == market


def test_a_slash_at_the_end_of_the_endpoint_does_not_matter(metadata_service: Service) -> None:
    with metadata_service(ANSWERS) as base:
        assert identify(base + "/").instance_id == "i-0123"


def test_a_missing_answer_is_an_error_of_ours(metadata_service: Service) -> None:
    without_type = {name: value for name, value in ANSWERS.items() if name != "instance-type"}
    with metadata_service(without_type) as base, pytest.raises(MetadataUnavailable, match=r"instance-type.*404"):
        identify(base)


def test_a_silent_service_is_an_error_of_ours(metadata_service: Service) -> None:
    with metadata_service(ANSWERS) as base:
        pass
    with pytest.raises(MetadataUnavailable):
        identify(base)


@pytest.mark.parametrize(("target", "answer"), [("Terminated", True), ("InService", False)])
def test_a_node_learns_what_its_group_has_in_mind(metadata_service: Service, target: str, answer: bool) -> None:
    with metadata_service(ANSWERS | {"autoscaling/target-lifecycle-state": target}) as base:
        assert taken_down(base) is answer


def test_outside_a_group_nobody_tells(metadata_service: Service) -> None:
    with metadata_service(ANSWERS) as base, pytest.raises(MetadataUnavailable, match=r"target-lifecycle-state.*404"):
        taken_down(base)


def test_the_sdks_own_variable_moves_the_service() -> None:
    assert endpoint({}) == "http://169.254.169.254"
    assert endpoint({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338"}) == "http://127.0.0.1:1338"
