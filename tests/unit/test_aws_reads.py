"""What only reads ends in time: whoever looks has a sign of life to give, and a front to mend."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from control_plane.aws import READ_LIMIT_S, AwsCloud
from control_plane.errors import Unavailable
from control_plane.janitor import MEND_S
from control_plane.reconciler import ABANDONED_S
from tests.stories.virtual import story


class Silent:
    """An Auto Scaling that answers ``pages`` times and then no more."""

    def __init__(self, pages: int) -> None:
        self._pages = pages

    async def describe_auto_scaling_groups(self, **_: Any) -> Any:
        if self._pages:
            self._pages -= 1
            await asyncio.sleep(READ_LIMIT_S / 4)
            return {"AutoScalingGroups": [], "NextToken": "more"}
        return await asyncio.get_running_loop().create_future()


@story
@pytest.mark.parametrize("pages", [0, 2])
async def test_groups_that_are_not_told_in_time_are_unavailable(pages: int) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Unavailable, match="did not answer"):
        await AwsCloud(cast("Any", Silent(pages)), "ours").groups()
    assert loop.time() - began == pytest.approx(READ_LIMIT_S)


def test_a_look_at_a_silent_aws_leaves_time_for_all_that_follows() -> None:
    assert READ_LIMIT_S < ABANDONED_S / 4
    assert READ_LIMIT_S < MEND_S / 3
