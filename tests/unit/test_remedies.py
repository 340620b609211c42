"""What is told to do about a failure."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from control_plane.instance_types import known
from control_plane.model import Model
from control_plane.remedies import _KNOWN, Stack, remedies
from gpu_node.phases import DRIVER_MISSING, overdue
from gpu_node.protocol import Failure, Phase, PhaseRecord
from rehearsal.engine_log import BOOT_FAILURES

CONFIG = {"name": "m", "repository": "org/m", "instanceTypes": ["g6.xlarge"]}
MODEL = Model.parse(CONFIG)
STACK = Stack(place=2, root_volume_gb=100)


def commands(config: Mapping[str, Any] = CONFIG, override: Mapping[str, Any] | None = None) -> dict[str, list[str]]:
    """All that can be copied, by code."""
    model = Model.parse(config, override)
    found = {code: remedies(Failure(code, "It failed."), model, STACK) for code in _KNOWN}
    return {code: [told.command for told in each if told.command] for code, each in found.items()}


def run(command: str) -> tuple[int, list[list[str]]]:
    """By a shell, with a pulumi that notes what it was told."""
    told = f"pulumi() {{ printf '%s\\0' \"$@\" $'\\n'; }}; {command}"
    done = subprocess.run(["bash", "-c", told], capture_output=True, text=True, check=False)
    return done.returncode, [line.rstrip("\0").split("\0") for line in done.stdout.split("\n\0") if line]


@pytest.mark.parametrize("code", _KNOWN)
def test_every_way_out_is_a_sentence_with_something_to_do(code: str) -> None:
    told = remedies(Failure(code, "It failed.", "Fix it."), MODEL, STACK)
    assert told
    assert all(remedy.text.endswith((".", ":", "stood.")) for remedy in told)
    assert any(remedy.command or remedy.url for remedy in told)


def test_what_is_gated_is_opened_on_its_own_page() -> None:
    first, *_ = remedies(Failure("gated_model", "Gated."), MODEL, STACK)
    assert first.url == "https://huggingface.co/org/m"


def test_of_what_nothing_special_is_known_the_failure_itself_speaks() -> None:
    (told,) = remedies(Failure("node_lost", "Gone.", "Ask again."), MODEL, STACK)
    assert (told.text, told.command, told.url) == ("Ask again.", None, None)
    assert remedies(Failure("x", "y"), MODEL, STACK) == []


def test_every_failure_that_a_boot_can_have_is_known_by_its_code() -> None:
    late = overdue([PhaseRecord(Phase.LOAD, 0.0)], 9.0, limits={Phase.LOAD: 1.0}, whole_s=99)
    assert late is not None
    assert {*BOOT_FAILURES, late.code, DRIVER_MISSING.code} - _KNOWN.keys() == {"engine_crashed"}


def test_a_shell_runs_what_is_copied_and_refuses_what_must_be_filled_in_first() -> None:
    every = [command for each in commands().values() for command in each]
    for command in every:
        status, _ = run(command)
        assert (status == 0) is ("<" not in command), command
        status, told = run(re.sub(r"<[^>]+>", "x", command))
        assert (status, told[-1]) == (0, ["up"]), command
        assert told[0][:2] in (["config", "set"], ["config", "rm"])
        assert "[N]" not in command
    assert sum("<" not in command for command in every) >= 6  # the most that can be known is told


def test_a_command_names_the_model_by_its_place_and_says_what_is_known() -> None:
    told = commands({**CONFIG, "vllmArgs": "--max-model-len 4096 --quantization awq --enable-prefix-caching"})
    arguments, kind = (run(command)[1][0] for command in told["out_of_gpu_memory"][:2])
    assert arguments == [
        *("config", "set", "--path", "models[2].vllmArgs", "--"),
        "--quantization awq --enable-prefix-caching --max-model-len 2048 --max-num-seqs 16",
    ]
    assert kind[:4] == ["config", "set", "--path", "models[2].instanceTypes[0]"]
    assert known()[kind[4]].gpu.gib > known()["g6.xlarge"].gpu.gib
    assert run(told["unsupported_quantization"][0])[1][0][-1] == "--max-model-len 4096 --enable-prefix-caching"
    assert run(told["disk_full"][0])[1][0] == ["config", "set", "rootVolumeGb", "200"]


def test_what_the_model_is_then_told_is_a_configuration() -> None:
    for command in [command for each in commands().values() for command in each if "<" not in command]:
        *_, path, _, value = ["", "", *run(command)[1][0]]
        if path.endswith("vllmArgs"):
            assert Model.parse({**CONFIG, "vllmArgs": value}).vllm_args


def test_arguments_that_were_changed_on_the_models_page_are_changed_there() -> None:
    """What Pulumi says of them would change nothing."""
    assert not any(
        "vllmArgs" in command for each in commands(override={"vllmArgs": "-q awq"}).values() for command in each
    )
    told = remedies(Failure("out_of_gpu_memory", "x"), Model.parse(CONFIG, {"vllmArgs": "--max-num-seqs 64"}), STACK)
    assert told[0].text.endswith("where they were changed: --max-model-len 8192 --max-num-seqs 16.")


def test_of_a_model_whose_place_is_not_known_the_setting_is_named() -> None:
    for code in _KNOWN:
        told = remedies(Failure(code, "x"), MODEL, Stack())
        assert not any("models[" in (remedy.command or "") for remedy in told)
    assert "`repository`" in remedies(Failure("model_not_found_on_hub", "x"), MODEL, Stack())[1].text
