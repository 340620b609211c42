"""What the engine's log lines tell."""

from __future__ import annotations

import pytest

from gpu_node.phases import PhaseTracker, explain, overdue
from gpu_node.protocol import Phase, PhaseRecord

GPU_BOOT = """\
(APIServer pid=7) INFO 11-22 23:34:40 [model.py:733] Resolved architecture: Qwen3ForCausalLM
(EngineCore pid=9) INFO 11-22 23:34:49 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='m'
(EngineCore pid=9) INFO 11-22 23:34:50 [gpu_model_runner.py:5040] Starting to load model m...
(EngineCore pid=9) INFO 11-22 23:35:50 [weight_utils.py:533] Time spent downloading weights for m: 60.1 seconds
(EngineCore pid=9) INFO 11-22 23:35:50 [weight_utils.py:1108] Filesystem type for checkpoints: EXT4. Checkpoint size: 8.00 GiB. Available RAM: 22.24 GiB.
Loading safetensors checkpoint shards:   0% Completed | 0/4 [00:00<?, ?it/s]
Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:02<00:02,  1.00it/s]
Loading safetensors checkpoint shards: 100% Completed | 4/4 [00:04<00:00,  1.00it/s]
(EngineCore pid=9) INFO 11-22 23:35:55 [default_loader.py:502] Loading weights took 4.01 seconds
(EngineCore pid=9) INFO 11-22 23:35:55 [gpu_model_runner.py:5150] Model loading took 7.9 GiB memory and 65.1 seconds
(EngineCore pid=9) INFO 11-22 23:36:00 [backends.py:1105] Using cache directory: /c for vLLM's torch.compile
(EngineCore pid=9) INFO 11-22 23:36:20 [monitor.py:20] torch.compile took 20.00 s in total
(EngineCore pid=9) INFO 11-22 23:36:21 [gpu_worker.py:760] Available KV cache memory: 4.35 GiB
(EngineCore pid=9) INFO 11-22 23:36:21 [kv_cache_utils.py:2327] GPU KV cache size: 31,648 tokens
Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): 100%|##########| 67/67 [00:04<00:00, 15.2it/s]
(EngineCore pid=9) INFO 11-22 23:36:26 [gpu_model_runner.py:6582] Graph capturing finished in 5 secs, took 0.55 GiB
(EngineCore pid=9) INFO 11-22 23:36:26 [core.py:402] init engine (profile, create kv cache, warmup model) took 31.00 s
(APIServer pid=7) INFO 11-22 23:36:28 [entry.py:140] Starting vLLM server on http://10.0.0.1:8000
INFO:     Application startup complete.
""".splitlines()  # noqa: E501 - as vLLM prints them

GIB = 1024**3


def read_all(lines: list[str]) -> PhaseTracker:
    tracker = PhaseTracker(0.0)
    for number, line in enumerate(lines, start=1):
        tracker.read(line, float(number))
    return tracker


def test_a_start_on_a_gpu_goes_through_weights_load_compile_and_warmup() -> None:
    entered = [(record.phase, record.started_at) for record in read_all(GPU_BOOT).records]
    assert entered == [
        (Phase.INSTANCE, 0.0),
        (Phase.WEIGHTS, 3.0),
        (Phase.LOAD, 4.0),
        (Phase.COMPILE, 11.0),
        (Phase.WARMUP, 16.0),
    ]


def test_a_start_without_compilation_leaves_that_phase_out() -> None:
    eager = [line for line in GPU_BOOT if "compile" not in line and "raph" not in line]
    eager.insert(0, "WARNING [vllm.py:1703] Enforce eager set, disabling torch.compile, CUDAGraphs, and JIT warmup.")
    phases = [record.phase for record in read_all(eager).records]
    assert phases == [Phase.INSTANCE, Phase.WEIGHTS, Phase.LOAD, Phase.WARMUP]


def test_only_a_new_phase_is_news() -> None:
    tracker = PhaseTracker(0.0)
    assert tracker.read("Starting to load model m...", 1.0)
    assert not tracker.read("Starting to load model m...", 2.0)
    assert not tracker.read("a line about nothing", 3.0)


def test_phases_never_go_backwards() -> None:
    tracker = read_all(GPU_BOOT)
    assert not tracker.read("Starting to load model m...", 99.0)
    assert not tracker.enter(Phase.DRIVER, 99.0)
    assert tracker.current is Phase.WARMUP


def test_loaded_shards_are_told_in_bytes_once_the_size_is_known() -> None:
    tracker = read_all(GPU_BOOT[:7])
    assert (tracker.records[-1].done_bytes, tracker.records[-1].total_bytes) == (4 * GIB, 8 * GIB)


def test_loaded_shards_of_unknown_size_have_no_bytes() -> None:
    tracker = read_all([GPU_BOOT[2], GPU_BOOT[6]])
    assert (tracker.current, tracker.records[-1].total_bytes) == (Phase.LOAD, None)


def test_downloads_of_several_files_add_up() -> None:
    tracker = read_all(
        [
            "Starting to load model m...",
            "model-00001-of-00002.safetensors:  25%|##5       | 1.00G/4.00G [00:05<00:15, 200MB/s]",
            "model-00002-of-00002.safetensors:  50%|#####     | 500M/1.00G [00:02<00:02, 200MB/s]",
            "model-00001-of-00002.safetensors:  50%|#####     | 2.00G/4.00G [00:10<00:10, 200MB/s]",
        ]
    )
    assert (tracker.records[-1].done_bytes, tracker.records[-1].total_bytes) == (2_500_000_000, 5_000_000_000)


def test_a_progress_bar_that_counts_files_is_not_taken_for_bytes() -> None:
    tracker = read_all(
        ["Starting to load model m...", "Fetching 4 files:  25%|##5       | 1/4 [00:05<00:15, 5.00s/it]"]
    )
    assert tracker.records[-1].total_bytes is None


@pytest.mark.parametrize(
    ("line", "code", "permanent"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB.", "out_of_gpu_memory", True),
        ("ValueError: No available memory for the cache blocks. Try increasing", "out_of_gpu_memory", True),
        ("(2.5 GiB KV cache is needed, which is larger than the available KV cache memory", "out_of_gpu_memory", True),
        ("Free memory on device cuda:0 is less than desired GPU memory utilization (0.92", "out_of_gpu_memory", True),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "gated_model", True),
        ("Cannot access gated repo for url https://huggingface.co/x/y.", "gated_model", True),
        ("OSError: You are trying to access a gated repo.", "gated_model", True),
        (
            "OSError: x/y is not a local folder and is not a valid model identifier listed on",
            "model_not_found_on_hub",
            True,
        ),
        ("huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error.", "model_not_found_on_hub", True),
        (
            "OSError: v9 is not a valid git identifier (branch name, tag name or commit id)",
            "model_not_found_on_hub",
            True,
        ),
        ("vllm serve: error: unrecognized arguments: --no-such-flag", "bad_engine_argument", True),
        ("vllm serve: error: argument --max-model-len: invalid human_readable_int", "bad_engine_argument", True),
        ("pydantic_core.ValidationError: 1 validation error for ModelConfig", "bad_engine_argument", True),
        ("ValueError: Cannot find the config file for awq", "unsupported_quantization", True),
        (
            "Quantization scheme is not supported for the current GPU. Min capability: 89.",
            "unsupported_quantization",
            True,
        ),
        ("OSError: [Errno 28] No space left on device", "disk_full", True),
        ("OSError: We couldn't connect to 'https://huggingface.co' to load the files", "hub_unreachable", False),
        (  # the hub's library says so as well when it cannot reach the hub
            "huggingface_hub.errors.LocalEntryNotFoundError: An error happened while trying to locate the file",
            "hub_unreachable",
            False,
        ),
        ("huggingface_hub.errors.EntryNotFoundError: 404 Client Error.", "model_not_found_on_hub", True),
        ("requests.exceptions.HTTPError: 503 Server Error: Service Unavailable for url", "hub_unreachable", False),
        ("diogenes: the engine could not be installed", "engine_not_installed", False),
        ("RuntimeError: Found no NVIDIA driver on your system.", "driver_missing", True),
        ("RuntimeError: Failed to infer device type, please set VLLM_LOGGING_LEVEL", "driver_missing", True),
        ("RuntimeError: something else entirely", "engine_crashed", False),
    ],
)
def test_last_words_are_explained(line: str, code: str, permanent: bool) -> None:
    noise = ["INFO before", line, "RuntimeError: Engine core initialization failed. See root cause above."]
    failure = explain(1, noise)
    assert (failure.code, failure.permanent) == (code, permanent)
    assert failure.message.endswith(".")
    assert failure.fix


def test_a_quantization_error_wrapped_in_a_validation_error_keeps_its_name() -> None:
    lines = ["1 validation error for VllmConfig", "  Value error, Unknown quantization method: foo. Must be one of"]
    assert explain(1, lines).code == "unsupported_quantization"


def test_a_failure_keeps_the_line_that_names_it() -> None:
    assert explain(1, ["INFO fine", " OSError: [Errno 28] No space left on device"]).cause == (
        "OSError: [Errno 28] No space left on device"
    )
    assert explain(1, ["INFO fine"]).cause == ""


def test_a_start_that_the_kernel_ended_points_at_the_machines_memory() -> None:
    told = "urllib3.exceptions.MaxRetryError: Max retries exceeded with url: /api/models"  # and then it went on
    for lines in (["INFO fine"], [told, "INFO fine"], ["OSError: [Errno 28] No space left on device"]):
        failure = explain(-9, lines, starved=True)
        assert (failure.code, failure.permanent) == ("host_out_of_memory", False)


def test_a_streamed_load_is_told_in_bytes_too() -> None:
    lines = [*GPU_BOOT[:5], "Loading safetensors using Runai Model Streamer:  25% Completed | 1/4 [00:01<00:03]"]
    tracker = read_all(lines)
    assert (tracker.current, tracker.records[-1].done_bytes) == (Phase.LOAD, 2 * GIB)


def test_programs_around_the_engine_tell_bytes_in_words_of_their_own() -> None:
    tracker = read_all(["diogenes: weights 1000/4000 bytes", "diogenes: weights 3000/4000 bytes"])
    record = tracker.records[-1]
    assert (record.phase, record.started_at, record.done_bytes, record.total_bytes) == (Phase.WEIGHTS, 1.0, 3000, 4000)
    assert not tracker.read("diogenes: nonsense 1/2 bytes", 9.0)
    assert not tracker.read("diogenes: engine-install 1/2 bytes", 9.0)
    assert tracker.records[-1].done_bytes == 3000


def test_a_start_is_given_up_for_its_phase_or_for_the_whole() -> None:
    limits = {Phase.WEIGHTS: 100.0}
    records = [PhaseRecord(Phase.INSTANCE, 0.0), PhaseRecord(Phase.WEIGHTS, 50.0, 10**9, 4 * 10**9)]
    assert overdue(records, 149.0, limits=limits, whole_s=1000) is None
    late = overdue(records, 150.0, limits=limits, whole_s=1000)
    assert late is not None
    assert (late.code, late.permanent, late.cause) == ("boot_too_slow", False, "1.0 of 4.0 GB were done")
    assert "weights" in late.message
    whole = overdue([*records, PhaseRecord(Phase.LOAD, 60.0)], 1000.0, limits=limits, whole_s=1000)
    assert whole is not None
    assert "in phase load" in whole.message
