"""What a start is estimated to take, and that the README says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.cold_start import (
    BAKED_SNAPSHOT_GB,
    COMPILE,
    EXAMPLES,
    NETWORK_GBPS,
    QUICK_MIB_S,
    RATES,
    Engine,
    Weights,
    at_rest_usd,
    markdown,
    seconds,
)
from control_plane.instance_types import instance_type

ROOT = Path(__file__).parents[2]
SMALL, MIDDLE, LARGE = EXAMPLES

CHOICES = [(engine, weights) for engine in Engine for weights in Weights]


@pytest.mark.parametrize(("engine", "weights"), CHOICES)
def test_a_later_start_is_never_slower_than_the_first(engine: Engine, weights: Weights) -> None:
    for example in EXAMPLES:
        later, first = seconds(example, engine, weights), seconds(example, engine, weights, first=True)
        assert 60 < later < first < 20 * 60


@pytest.mark.parametrize("engine", Engine)
def test_a_mirror_pays_where_the_network_is_wide_and_costs_no_time_where_it_is_narrow(engine: Engine) -> None:
    assert seconds(LARGE, engine, Weights.HUB) - seconds(LARGE, engine, Weights.S3) > 60
    for example in (SMALL, MIDDLE):
        assert seconds(example, engine, Weights.S3) < seconds(example, engine, Weights.HUB) + 1
    for example in EXAMPLES:
        both = [seconds(example, engine, weights, first=True) for weights in Weights]
        assert both[0] == both[1]


def test_a_streamed_8b_takes_as_long_as_its_types_network_needs_for_it() -> None:
    # Engine and instance are the same for both, so what is left is 16.1 GB at 2.5 Gbit/s and 39.9 GB at 3.07 GB/s.
    difference = seconds(SMALL, Engine.BAKED, Weights.S3) - seconds(LARGE, Engine.BAKED, Weights.S3)
    assert difference == pytest.approx(16.1 / 0.3125 - 39.9 / (15 / 4.88))


def test_a_first_start_of_a_baked_image_differs_by_compiling_alone_from_the_hub() -> None:
    later, first = (seconds(MIDDLE, Engine.BAKED, Weights.HUB, first=first) for first in (False, True))
    assert first - later == pytest.approx(COMPILE.value - 5.0)


def test_a_second_start_that_streams_for_the_first_time_compiles_again() -> None:
    assert "the third start" in markdown()
    assert f"{COMPILE.value - 5.0:.0f} s longer" in markdown()


def test_a_volume_that_carries_more_helps_a_baked_engine_until_it_is_filled_no_faster() -> None:
    def after(carried: int, engine: Engine = Engine.BAKED) -> float:
        return seconds(SMALL, engine, Weights.S3, volume_mib_s=carried)

    assert after(125) - after(QUICK_MIB_S) == pytest.approx(4e9 / (125 * 2**20) - 4 / 0.21, abs=0.1)
    assert after(750) == pytest.approx(after(QUICK_MIB_S), abs=0.1)
    for engine in (Engine.INSTALL, Engine.CONTAINER):
        assert after(125, engine) == after(750, engine)
    assert "rootVolumeMibS" in markdown()


def test_nothing_at_rest_costs_but_what_is_kept() -> None:
    assert at_rest_usd(LARGE, Engine.INSTALL, Weights.HUB) == at_rest_usd(LARGE, Engine.CONTAINER, Weights.HUB) == 0
    assert at_rest_usd(LARGE, Engine.INSTALL, Weights.S3) == pytest.approx(39.9 * 0.023)
    assert at_rest_usd(SMALL, Engine.BAKED, Weights.HUB) == pytest.approx(BAKED_SNAPSHOT_GB * 0.05)


def test_every_rate_says_where_it_is_from_and_every_type_is_known() -> None:
    assert all(rate.source and rate.value > 0 for rate in RATES)
    assert {instance_type(example.instance).name for example in EXAMPLES} == set(NETWORK_GBPS)


def test_the_readme_has_the_table_as_it_is_computed() -> None:
    _, begun, rest = (ROOT / "README.md").read_text().partition("<!-- cold start -->\n")
    shown, ended, _ = rest.partition("<!-- /cold start -->")
    assert begun
    assert ended
    assert shown.strip() == markdown()
    assert "Estimate, not measured" in shown
