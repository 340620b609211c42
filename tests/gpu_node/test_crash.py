"""Why an engine died that had been ready: a code, one sentence and a way out, from its end and its last lines."""

from __future__ import annotations

import pytest

from gpu_node.crash import crashed, explain

DEAD = "(APIServer pid=7) ERROR 11-22 23:40:01 [async_llm.py:60] EngineDeadError: EngineCore encountered an issue."


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out_of_gpu_memory"),
        ("RuntimeError: CUDA error: out of memory", "out_of_gpu_memory"),
        (
            "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "out_of_gpu_memory",
        ),
        ("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", "cuda_error"),
        ("RuntimeError: CUDA error: device-side assert triggered", "cuda_error"),
        ("RuntimeError: Triton Error [CUDA]: misaligned address", "cuda_error"),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", "cuda_error"),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "gpu_fault"),
        ("RuntimeError: CUDA error: unspecified launch failure", "gpu_fault"),
        ("RuntimeError: No CUDA GPUs are available: no CUDA-capable device is detected", "gpu_fault"),
        (
            "torch.distributed.DistBackendError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO)",
            "gpu_fault",
        ),
        ("[Rank 0] NCCL watchdog thread terminated with exception: unhandled cuda error", "gpu_fault"),
        ("OSError: [Errno 28] No space left on device", "disk_full"),
        ("RuntimeError: something else entirely", "engine_crashed"),
    ],
)
def test_last_words_are_explained(line: str, code: str) -> None:
    failure = explain(1, ["INFO 10.0.0.1 POST /v1/chat/completions 200 OK", f" {line}", DEAD])
    assert failure.code == code
    assert failure.message.endswith(".")
    assert failure.fix.endswith(".")
    assert not failure.permanent  # it has worked
    assert failure.cause == (line if code != "engine_crashed" else DEAD)


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        ("CUDA error: an illegal memory access was encountered", "cuda_error"),
        ("torch.OutOfMemoryError: CUDA out of memory.", "out_of_gpu_memory"),
        ("NVRM: Xid (PCI:0000:00:1e): 79, GPU has fallen off the bus.", "gpu_fault"),
    ],
)
@pytest.mark.parametrize(
    "watchdog", ["NCCL watchdog thread terminated with exception", "NCCL error: unhandled cuda error"]
)
def test_what_ties_the_gpus_together_is_not_blamed_for_what_it_only_reports(
    watchdog: str, cause: str, code: str
) -> None:
    for lines in ([f"{watchdog}: {cause}"], [watchdog, cause, DEAD], [cause, watchdog]):
        failure = explain(-6, lines)
        assert failure.code == code
        assert cause in failure.cause


def test_what_the_kernel_killed_is_not_blamed_on_the_gpus() -> None:
    failure = explain(1, ["NCCL watchdog thread terminated with exception", DEAD], starved=True)
    assert (failure.code, failure.cause) == ("host_out_of_memory", DEAD)
    assert "memory" in failure.message


def test_an_end_without_words_is_told_by_its_status() -> None:
    assert explain(-9, ["INFO fine"]).message == "The engine was killed by signal 9 (SIGKILL)."
    assert explain(-9, ["INFO fine"]).cause == ""
    assert "SIGSEGV" in crashed(-11).message
    assert "signal 120" in crashed(-120).message
    assert "code 3" in crashed(3).message
