"""The stand-in engine's command line, and what of it reaches a real vLLM in its place."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from rehearsal.engine import parse
from rehearsal.vllm_cpu import command, environment


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        ([], {}, "usage"),
        (["serve"], {}, "usage"),
        (["serve", "m"], {"REHEARSAL_BOOT_FAILURE": "nonsense"}, "out_of_gpu_memory"),
    ],
)
def test_an_odd_command_line_is_explained(argv: list[str], environ: Mapping[str, str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        parse(argv, environ)


def test_flags_that_mean_nothing_here_are_accepted() -> None:
    options = parse(shlex.split("serve org/m -tp 4 -O3 --served-model-name a b --max-model-len 32k --port=9 --x"), {})
    assert (options.names, options.port, options.repository) == (["a", "b"], 9, "org/m")


def test_what_speaks_of_gpus_is_left_out_for_a_cpu() -> None:
    argv = shlex.split(
        "serve org/big --served-model-name a b --host h --port 8000 --revision r -tp 4 --quantization=awq"
    )
    line = command(argv, vllm=Path("/v/bin/vllm"), model=Path("/v/model"))
    assert line[:3] == ["/v/bin/vllm", "serve", "/v/model"]
    assert line[-7:] == ["--served-model-name", "a", "b", "--host", "h", "--port", "8000"]
    assert not {"-tp", "--quantization=awq", "--revision", "org/big"} & set(line)


def test_with_a_hub_of_its_own_the_nodes_command_line_holds() -> None:
    argv = shlex.split("serve org/big --served-model-name a --max-model-len 64 --quantization=awq")
    line = command(argv, vllm=Path("/v/bin/vllm"), model=None)
    assert line[:3] == ["/v/bin/vllm", "serve", "org/big"]
    assert line[-5:] == ["--served-model-name", "a", "--max-model-len", "64", "--quantization=awq"]
    told = environment({"REHEARSAL_HUB": "http://hub", "REHEARSAL_HUB_CACHE": "/c", "HF_ENDPOINT": "http://other"})
    assert (told["HF_ENDPOINT"], told["HF_HOME"]) == ("http://hub", "/c")
    assert "HF_HUB_OFFLINE" not in told


def test_without_one_nothing_is_asked_of_any_hub() -> None:
    assert environment({})["HF_HUB_OFFLINE"] == "1"
