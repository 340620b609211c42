"""Why an engine that worked works no more: from how its process ended, and from its last lines. Pure.

What killed it is told apart from what the start of one can lack (``phases``): here the model fits and the arguments
hold, so that another engine may well live, and none of it is permanent. That it comes again and again is for the
control plane to see.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import replace

from gpu_node.protocol import Failure

_AGAIN = "It is started again; see its last lines if that does not help."

UNRESPONSIVE = Failure("engine_crashed", "The engine runs but answers nothing any more.", _AGAIN)

HUNG = Failure(
    "engine_hung",
    "The engine answers, but works on nothing any more: it has requests and counts no token.",
    "A new node is started; see its last lines if that does not help.",
)

_HOST_MEMORY = Failure(
    "host_out_of_memory",
    "The machine's own memory was full, and the kernel killed the engine.",
    "Use an instance type with more memory (not of its GPUs), or fewer --max-num-seqs in vllmArgs.",
)

_GPU_FAULT = Failure(
    "gpu_fault",
    "The GPU, or the way to it, failed under the engine.",
    "A new node is started, on another machine.",
)

_EXPLANATIONS: Sequence[tuple[Failure, re.Pattern[str]]] = (
    (
        _GPU_FAULT,
        re.compile(
            r"uncorrectable (?:NVLink|ECC) error|fallen off the bus|NVRM: Xid|no CUDA-capable device is detected"
            r"|CUDA error: (?:unknown error|unspecified launch failure|hardware stack error|system (?:not|driver)"
            r"|device not ready|driver shutting down|initialization error|invalid device ordinal)"
            r"|unhandled system error|ncclInternalError|ncclRemoteError"
        ),
    ),
    (
        Failure(
            "out_of_gpu_memory",
            "The GPUs ran out of memory while the engine worked.",
            "Lower --gpu-memory-utilization, --max-num-seqs or --max-num-batched-tokens in vllmArgs.",
        ),
        re.compile(r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"),
    ),
    (
        Failure(
            "cuda_error",
            "A kernel of the engine did on the GPU what it may not.",
            "A new node is started; if it comes again, add --enforce-eager to vllmArgs, or use a newer vLLM.",
        ),
        re.compile(
            r"illegal memory access|device-side assert|misaligned address|illegal instruction was encountered"
            r"|an illegal address|CUDA error: |CUBLAS_STATUS_|CUDNN_STATUS_|Triton Error \[CUDA\]|cudaError"
        ),
    ),
    (
        Failure(
            "disk_full",
            "The machine's disk is full.",
            "Give the nodes a larger volume.",
        ),
        re.compile(r"No space left on device|Disk quota exceeded"),
    ),
    # What ties the GPUs together says so of any error on one of them, and often first.
    (_GPU_FAULT, re.compile(r"NCCL watchdog|unhandled cuda error")),
)

# vLLM says of everything that its core is dead; the line that was first says more.
_TELLING = re.compile(r"\b\w*(?:Error|Exception|Signal)\b|\bERROR\b|\bFATAL\b|Segmentation fault|\bKilled\b")


def explain(exit_code: int, lines: Sequence[str], *, starved: bool = False) -> Failure:
    """Why an engine died that had been ready: what its lines name, else what its end does.

    ``exit_code`` is negative for a signal; ``starved``: the kernel killed something for want of memory meanwhile. That
    goes before all else, since what is left of an engine then complains of the GPUs.
    """
    for failure, pattern in () if starved else _EXPLANATIONS:
        if line := next((line for line in lines if pattern.search(line)), None):
            return replace(failure, cause=line.strip())
    return replace(crashed(exit_code, starved=starved), cause=_last_telling(lines))


def crashed(exit_code: int, *, starved: bool = False) -> Failure:
    """The engine went away for a reason that its log does not name."""
    if starved:
        return _HOST_MEMORY
    return Failure("engine_crashed", f"The engine {_ending(exit_code)}.", _AGAIN)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "no name that we know"
    return f"was killed by signal {-code} ({name})"


def _last_telling(lines: Sequence[str]) -> str:
    telling = [line for line in lines if _TELLING.search(line)]
    return telling[-1].strip() if telling else ""
