"""What is told of a quota that is too small, and what to do about it."""

from __future__ import annotations

import pytest

from control_plane.model import Model
from control_plane.ports import Group
from control_plane.refusals import Refusal, Rung, explain
from tests.unit.test_launcher import ON_DEMAND, QUOTA, SPOT, WRONG, model


@pytest.mark.parametrize(
    ("kind", "market", "zone", "told"),
    [
        ("g6.xlarge", "on-demand", "us-east-1a", "quota L-DB2E81BA (Running On-Demand G and VT instances): "
         "https://us-east-1.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-DB2E81BA"),
        ("g6.xlarge", "spot", "ap-southeast-2c", "quota L-3819A6DF (All G and VT Spot Instance Requests): "
         "https://ap-southeast-2.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-3819A6DF"),
        ("p5.48xlarge", "on-demand", "a", "quota L-417A185B (Running On-Demand P instances): "
         "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-417A185B"),
        ("p5.48xlarge", "spot", "us-west-2b", "quota for p5.48xlarge on market spot: "
         "https://us-west-2.console.aws.amazon.com/servicequotas/home/services/ec2/quotas, in the console"),
    ],
)  # fmt: skip
def test_a_quota_is_named_with_its_page_in_the_console(kind: str, market: str, zone: str, told: str) -> None:
    asked = Model.parse({"name": "m", "instanceTypes": [kind], "market": market})
    failure = explain(asked, [Refusal(Rung(Group("g", "m", market, (zone,), 1, 0), zone), QUOTA)])
    assert told in failure.fix
    assert "Service Quotas > AWS services > Amazon EC2" in failure.fix
    assert f"{kind} (" in failure.message  # with what it takes of the quota
    assert f"(tried {market} in {zone}: VcpuLimitExceeded)" in failure.message


def test_a_quota_here_and_a_mistake_there_are_both_told() -> None:
    rungs = [Refusal(Rung(SPOT, "a"), QUOTA), Refusal(Rung(ON_DEMAND, "a"), WRONG)]
    failure = explain(model("spot-then-on-demand"), rungs)
    assert (failure.code, failure.permanent) == ("gpu_quota_exceeded", True)
    assert "L-3819A6DF" in failure.fix
    assert "not allowed" in failure.fix
