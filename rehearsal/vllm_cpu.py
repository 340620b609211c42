"""The real vLLM as a node's engine, on a machine without a GPU: a tiny model under the name of the configured one.

    REHEARSAL_VLLM_VENV=… python -m rehearsal.vllm_cpu serve REPOSITORY --served-model-name NAME --host H --port P …

Takes the command line that a node gives its engine. The model's repository is not fetched: a random model of a few
hundred kilobytes stands in (see tiny_model.py), so settings that speak of the real one, or of GPUs, are left out.
``install_vllm.sh`` makes the virtual environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

KEPT_FLAGS = frozenset(
    {"--served-model-name", "--host", "--port", "--enable-prompt-tokens-details", "--enable-force-include-usage"}
)
"""What a node's command line keeps here. Everything else sizes the engine for a GPU and a model that are not there."""

CPU_FLAGS = (
    "--enforce-eager",
    "--kv-cache-memory-bytes", "64M",  # without it the engine wants most of the machine's memory
    "--max-model-len", "2048",
    "--max-num-seqs", "32",
    "--enable-auto-tool-choice",
    "--tool-call-parser", "hermes",
)  # fmt: skip

CPU_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TORCHDYNAMO_DISABLE": "1",  # else the first request for logprobs compiles for 18 s
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process less: 10 s less CPU time to ready
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


def command(argv: Sequence[str], *, vllm: Path, model: Path) -> list[str]:
    """vLLM's command line for ``model`` from a node's (``serve REPOSITORY --flag value …``)."""
    if len(argv) < 2 or argv[0] != "serve":
        raise SystemExit("usage: vllm_cpu serve REPOSITORY [flags]")
    return [str(vllm), "serve", str(model), *CPU_FLAGS, *_kept(argv[2:])]


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment; a value set from outside wins."""
    return {**CPU_ENVIRONMENT, **inherited}


def main() -> None:
    venv = os.environ.get("REHEARSAL_VLLM_VENV")
    if not venv:
        raise SystemExit("REHEARSAL_VLLM_VENV must name a virtual environment made by rehearsal/install_vllm.sh")
    programs = Path(venv) / "bin"
    model = Path(venv) / "share" / "tiny-model"
    line = command(sys.argv[1:], vllm=programs / "vllm", model=model)
    if not (model / "config.json").exists():
        maker = Path(__file__).with_name("tiny_model.py")
        subprocess.run([programs / "python", maker, model], check=True)
    os.execve(line[0], line, environment(os.environ))  # noqa: S606 - it takes this process's place


def _kept(flags: Sequence[str]) -> list[str]:
    kept: list[str] = []
    keeping = False
    for word in flags:
        if word.startswith("-"):
            keeping = word.split("=")[0] in KEPT_FLAGS
        if keeping:
            kept.append(word)
    return kept


if __name__ == "__main__":
    main()
