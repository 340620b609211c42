"""The instance types that we know, and which is the cheapest that will do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane import prices as prices_module
from control_plane.fit import Answer, EngineArguments
from control_plane.geometry import Geometry
from control_plane.instance_types import UnknownInstanceType, cheapest, fits, instance_type, known
from control_plane.prices import Prices, prices

TEXT = Path(prices_module.__file__).with_name("prices.json").read_text()

B8 = Geometry(
    linear=7e9,
    embedding=1e9,
    layers=32,
    kv_heads=8,
    head_dim=128,
    hidden_size=4096,
    intermediate_size=14336,
    vocab_size=128256,
    attention_heads=32,
    max_position=131072,
)
B32 = replace(B8, linear=31e9, layers=64, hidden_size=5120, intermediate_size=25600, attention_heads=64)


def test_a_known_type_tells_its_gpus_and_its_price() -> None:
    kind = instance_type("g5.12xlarge")
    assert (kind.gpus, kind.gpu.name, kind.gpu.gib, kind.vcpus, kind.memory_gib) == (4, "A10G", 22.0, 48, 192)
    assert kind.usd_per_hour == 5.672


def test_an_unknown_type_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(
        UnknownInstanceType, match=r"g9\.huge is not an instance type .* g5\.xlarge, .*p5\.48xlarge"
    ) as refused:
        instance_type("g9.huge")
    assert refused.value.known == tuple(known())


def test_a_torch_sees_less_of_a_gpu_than_its_name_says() -> None:
    for kind in known().values():
        assert 0.85 < kind.gpu.gib / kind.gpu.nominal_gb < 1.0


def test_the_cheapest_type_is_the_cheapest_of_those_that_fit() -> None:
    arguments = EngineArguments(max_model_len=16384)
    found = cheapest(B8, arguments)
    assert found
    assert (found.instance_type.name, found.tensor_parallel) == ("g6.xlarge", 1)
    for kind in known().values():
        if kind.usd_per_hour < found.instance_type.usd_per_hour:
            assert fits(B8, arguments, name=kind.name).answer is not Answer.YES


def test_a_model_too_large_for_one_gpu_is_spread_over_all_of_an_instance() -> None:
    found = cheapest(B32, EngineArguments(max_model_len=32768))
    assert found
    assert (found.instance_type.name, found.tensor_parallel) == ("g6.12xlarge", 4)


def test_where_nothing_fits_there_is_no_cheapest() -> None:
    assert cheapest(replace(B32, linear=2e12), EngineArguments(max_model_len=8192)) is None
    assert cheapest(B8, EngineArguments(quantization="awq")) is None


def test_the_price_file_says_of_what_day_and_place_it_is_and_where_it_is_from() -> None:
    told = json.loads(TEXT)
    assert (prices().region, str(prices().date)) == (told["region"], told["date"])
    assert all(told[part]["source"] for part in ("gpus", "instanceTypes", "services"))
    assert all(price > 0 for name, price in told["services"].items() if name != "source")


def test_a_price_that_nobody_reads_or_that_is_missing_is_refused() -> None:
    told = json.loads(TEXT)
    told["services"]["natUsdPerHour"] = 0.045
    with pytest.raises(TypeError, match="nat_usd_per_hour"):
        Prices.of_json(json.dumps(told))
    del told["services"]["natUsdPerHour"], told["services"]["albUsdPerHour"]
    with pytest.raises(TypeError, match="alb_usd_per_hour"):
        Prices.of_json(json.dumps(told))
