"""What the stand-in engine prints while it starts, or fails to: the texts of vLLM 0.32, in its order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One line, printed when this part of the loading time is over."""

    part: float
    process: str  # as vLLM marks its lines; "" for a line without a mark
    text: str


def boot_steps(*, repository: str, host: str, port: int) -> Sequence[Step]:
    """A start that succeeds, on a machine with a GPU."""
    shard = "Loading safetensors checkpoint shards: {:3d}% Completed | {}/4 [00:00<00:00, 9.71it/s]"
    return (
        Step(0.0, "APIServer", "[rehearsal] STAND-IN ENGINE: speaks vLLM's HTTP, runs no model"),
        Step(0.0, "APIServer", f"[api_utils.py:347]   version 0.32.0, model {repository}"),
        Step(0.0, "APIServer", f"[api_utils.py:286] non-default args: {{'model_tag': '{repository}'}}"),
        Step(0.05, "APIServer", "[model.py:733] Resolved architecture: Qwen3ForCausalLM"),
        Step(0.1, "EngineCore", "[core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: …"),
        Step(0.1, "EngineCore", "[parallel_state.py:1906] world_size=1 rank=0 local_rank=0 backend=nccl"),
        Step(0.15, "EngineCore", f"[gpu_model_runner.py:5040] Starting to load model {repository}..."),
        Step(0.4, "EngineCore", f"[weight_utils.py:533] Time spent downloading weights for {repository}: 9.1 seconds"),
        Step(
            0.4,
            "EngineCore",
            "[weight_utils.py:1108] Filesystem type for checkpoints: EXT4. Checkpoint size: 15.26 GiB.",
        ),
        *(Step(0.4 + 0.05 * done, "", shard.format(25 * done, done)) for done in range(5)),
        Step(0.6, "EngineCore", "[default_loader.py:502] Loading weights took 6.21 seconds"),
        Step(0.6, "EngineCore", "[gpu_model_runner.py:5150] Model loading took 15.27 GiB memory and 16.4 seconds"),
        Step(0.65, "EngineCore", "[backends.py:1105] Using cache directory: … for vLLM's torch.compile"),
        Step(0.7, "EngineCore", "[backends.py:1167] Dynamo bytecode transform time: 5.12 s"),
        Step(0.8, "EngineCore", "[monitor.py:20] torch.compile took 21.44 s in total"),
        Step(0.8, "EngineCore", "[gpu_worker.py:760] Available KV cache memory: 4.35 GiB"),
        Step(
            0.8, "EngineCore", "[kv_cache_utils.py:2327] GPU KV cache size: 31,648 tokens, Maximum concurrency …: 3.86x"
        ),
        Step(0.85, "", "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): 100%|██████████| 67/67 [00:04<00:00]"),
        Step(0.95, "EngineCore", "[gpu_model_runner.py:6582] Graph capturing finished in 5 secs, took 0.55 GiB"),
        Step(0.98, "EngineCore", "[core.py:402] init engine (profile, create kv cache, warmup model) took 33.90 s"),
        Step(1.0, "APIServer", f"[entry.py:140] Starting vLLM server on http://{host}:{port}"),
    )


BOOT_FAILURES: Mapping[str, Sequence[str]] = {
    "out_of_gpu_memory": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a capacity of 21.98 GiB"
        " of which 588.44 MiB is free.",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    ),
    "gated_model": (
        "huggingface_hub.errors.GatedRepoError: 401 Client Error.",
        "Cannot access gated repo for url https://huggingface.co/some/model/resolve/main/config.json.",
        "OSError: You are trying to access a gated repo.",
        "Make sure to have access to it at https://huggingface.co/some/model.",
    ),
    "model_not_found_on_hub": (
        "OSError: some/model is not a local folder and is not a valid model identifier listed on"
        " 'https://huggingface.co/models'",
    ),
    "bad_engine_argument": (
        "usage: vllm serve [model_tag] [options]",
        "vllm serve: error: unrecognized arguments: --no-such-flag",
    ),
    "unsupported_quantization": ("ValueError: Cannot find the config file for awq",),
    "disk_full": ("OSError: [Errno 28] No space left on device",),
    "driver_missing": (
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a"
        " driver from http://www.nvidia.com/Download/index.aspx",
    ),
    "engine_crashed": (
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    ),
}
"""Last words, by what the node shall make of them."""

# How far a start comes before it fails.
_DIES_AT = {"bad_engine_argument": 0.0, "gated_model": 0.02, "model_not_found_on_hub": 0.02, "out_of_gpu_memory": 0.62}
_DIES_OTHERWISE_AT = 0.2


def boot(steps: Sequence[Step], *, seconds: float, failure: str | None) -> Iterator[str]:
    """The lines of one start, each when its time has come; ends early, with the last words, for a ``failure``."""
    end = _DIES_AT.get(failure, _DIES_OTHERWISE_AT) if failure else 1.0
    begun = time.monotonic()
    for step in steps:
        if step.part > end:
            break
        time.sleep(max(0.0, begun + step.part * seconds - time.monotonic()))
        mark = f"({step.process} pid=1) INFO {time.strftime('%m-%d %H:%M:%S')} " if step.process else ""
        yield mark + step.text
    for line in BOOT_FAILURES[failure] if failure else ():
        yield f"(EngineCore pid=1) ERROR {time.strftime('%m-%d %H:%M:%S')} [core.py:1027] {line}"
