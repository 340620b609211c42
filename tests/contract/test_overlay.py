"""The overlay says of LaunchInstances what a current SDK says."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from moto.core.loaders import create_loader

from control_plane.aws_session import add_overlay

COMMAND = "pip install --no-deps --require-hashes -r tests/requirements-botocore.txt --target .cache/botocore-current"
Description = dict[str, Any]


@pytest.fixture
def overlaid() -> Description:
    loader = Loader()
    add_overlay(loader)
    found: Description = loader.load_service_model("autoscaling", "service-2")
    return found


@pytest.fixture
def current() -> Description:
    folder = Path(os.environ.get("CURRENT_BOTOCORE", ".cache/botocore-current"))
    file = folder / "botocore/data/autoscaling/2011-01-01/service-2.json.gz"
    if not file.exists():
        told = f"no current botocore in {folder}: {COMMAND}"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    found: Description = json.loads(gzip.decompress(file.read_bytes()))
    return found


def without_prose(description: Any) -> Any:
    match description:
        case dict():
            prose = {"documentation"} if isinstance(description.get("documentation"), str) else set()
            return {name: without_prose(value) for name, value in description.items() if name not in prose}
        case list():
            return [without_prose(value) for value in description]
    return description


def shapes_of(operation: str, description: Description) -> dict[str, Any]:
    """Every shape that the operation reaches, by name."""
    told = description["operations"][operation]
    reached: dict[str, Any] = {}
    ahead = [told["input"]["shape"], told["output"]["shape"], *(error["shape"] for error in told["errors"])]
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached[name] = without_prose(description["shapes"][name])
            ahead += [member["shape"] for member in reached[name].get("members", {}).values()]
            ahead += [reached[name]["member"]["shape"]] if "member" in reached[name] else []
    return reached


def test_the_operation_is_the_current_one(overlaid: Description, current: Description) -> None:
    ours, theirs = (without_prose(told["operations"]["LaunchInstances"]) for told in (overlaid, current))
    assert ours == theirs


def test_every_shape_is_the_current_one(overlaid: Description, current: Description) -> None:
    ours, theirs = (shapes_of("LaunchInstances", told) for told in (overlaid, current))
    assert ours.keys() == theirs.keys()
    assert {name: shape for name, shape in ours.items() if shape != theirs[name]} == {}


def test_the_overlay_only_adds(overlaid: Description) -> None:
    plain = Loader().load_service_model("autoscaling", "service-2")
    assert "LaunchInstances" in overlaid["operations"]
    assert {name: overlaid["shapes"][name] for name in plain["shapes"]} == plain["shapes"]


def test_an_emulator_of_ours_learns_the_operation_as_well() -> None:
    loader = create_loader()
    add_overlay(loader)
    model = ServiceModel(loader.load_service_model("autoscaling", "service-2"), "autoscaling")
    answer = model.operation_model("LaunchInstances").output_shape
    assert answer is not None
    assert set(answer.members) == {
        "AutoScalingGroupName",
        "ClientToken",
        "Instances",
        "Errors",
    }
