"""The real vLLM as a node's engine, on a machine without a GPU: a tiny model under the name of the configured one.

    REHEARSAL_VLLM_VENV=… python -m rehearsal.vllm_cpu serve REPOSITORY --served-model-name NAME --host H --port P …

Takes the command line that a node gives its engine. The model's repository is not fetched: a random model of a few
hundred kilobytes stands in (see tiny_model.py), so settings that speak of the real one, or of GPUs, are left out.
``install_vllm.sh`` makes the virtual environment.

With ``REHEARSAL_HUB``, the address of a hub, nothing stands in: the repository is fetched from there, into the folder
``REHEARSAL_HUB_CACHE``, and the model's own arguments hold, wrong ones too.
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

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

CPU_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TORCHDYNAMO_DISABLE": "1",  # else the first request for logprobs compiles for 18 s
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process less: 10 s less CPU time to ready
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


def command(argv: Sequence[str], *, vllm: Path, model: Path | None) -> list[str]:
    """vLLM's command line from a node's (``serve REPOSITORY --flag value …``), for ``model`` in the repository's place.

    Without a ``model`` it is the node's own, on a CPU: vLLM lets the last of a flag's values win.
    """
    if len(argv) < 2 or argv[0] != "serve":
        raise SystemExit("usage: vllm_cpu serve REPOSITORY [flags]")
    repository, flags = (argv[1], argv[2:]) if model is None else (str(model), _kept(argv[2:]))
    return [str(vllm), "serve", repository, *CPU_FLAGS, *flags]


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment; a value set from outside wins."""
    if "REHEARSAL_HUB" not in inherited:
        return {**CPU_ENVIRONMENT, **OFFLINE, **inherited}
    hub = {"HF_ENDPOINT": inherited["REHEARSAL_HUB"]}
    if "REHEARSAL_HUB_CACHE" in inherited:
        hub["HF_HOME"] = inherited["REHEARSAL_HUB_CACHE"]
    return {**CPU_ENVIRONMENT, **inherited, **hub}


def make_tiny_model(venv: Path, folder: Path) -> None:
    """Write the tiny model into ``folder``, by the Python of vLLM's own environment."""
    maker = Path(__file__).with_name("tiny_model.py")
    subprocess.run([venv / "bin" / "python", maker, folder], check=True)


def main() -> None:
    venv = os.environ.get("REHEARSAL_VLLM_VENV")
    if not venv:
        raise SystemExit("REHEARSAL_VLLM_VENV must name a virtual environment made by rehearsal/install_vllm.sh")
    model = None if os.environ.get("REHEARSAL_HUB") else Path(venv) / "share" / "tiny-model"
    line = command(sys.argv[1:], vllm=Path(venv) / "bin" / "vllm", model=model)
    if model and not (model / "config.json").exists():
        make_tiny_model(Path(venv), model)
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
