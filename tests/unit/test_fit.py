"""Whether a model fits: rows that were compared with vLLM's own arithmetic, and what its arguments change."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.fit import Answer, EngineArguments, InvalidArguments, Verdict, check
from control_plane.geometry import Geometry, Quantization
from control_plane.prices import Gpu, prices

A10G = Gpu("A10G", 22.0, 24)
L40S = Gpu("L40S", 44.4, 48)

# Parameters counted on models that were built without weights.
NEXT = Geometry(
    linear=78.9955e9,
    embedding=0.6223e9,
    replicated=0.0565e9,
    layers=12,
    kv_heads=2,
    head_dim=256,
    hidden_size=2048,
    intermediate_size=512,
    vocab_size=151936,
    experts_per_token=10,
    attention_heads=16,
    state_gib=0.16,
    max_position=262144,
)
Q32 = Geometry(
    linear=31.2056e9,
    embedding=1.5558e9,
    replicated=7e5,
    layers=64,
    kv_heads=8,
    head_dim=128,
    hidden_size=5120,
    intermediate_size=25600,
    vocab_size=151936,
    attention_heads=64,
    max_position=40960,
)
R70 = Geometry(
    linear=68.451e9,
    embedding=2.1013e9,
    replicated=1.3e6,
    layers=80,
    kv_heads=8,
    head_dim=128,
    hidden_size=8192,
    intermediate_size=28672,
    vocab_size=128256,
    attention_heads=64,
    max_position=131072,
)
L8 = Geometry(
    linear=6.9793e9,
    embedding=1.0507e9,
    replicated=3e5,
    layers=32,
    kv_heads=8,
    head_dim=128,
    hidden_size=4096,
    intermediate_size=14336,
    vocab_size=128256,
    attention_heads=32,
    max_position=131072,
)
CAREFUL = "--gpu-memory-utilization .95 --enforce-eager --max-num-seqs 16"


def stored_as(geometry: Geometry, word: str) -> Geometry:
    quantization = Quantization.of_word(word)
    assert quantization
    return replace(geometry, quantization=quantization)


def ask(geometry: Geometry, arguments: str, *, gpu: Gpu = A10G, gpus: int = 1) -> Verdict:
    return check(geometry, EngineArguments.parse(shlex.split(arguments)), gpu=gpu, gpus=gpus)


class Row(NamedTuple):
    """A model on a machine, and what the comparison says of it: GiB per GPU, where it says so."""

    geometry: Geometry
    arguments: str
    answer: str
    terms: Mapping[str, float]  # of Terms, by name
    gpus: int = 1
    gpu: Gpu = A10G
    max_tokens: int | None = None  # about


NEXT_64K = "-tp 4 --max-model-len 65536"
NEXT_FP8, NEXT_4BIT = stored_as(NEXT, "fp8-block"), stored_as(NEXT, "gptq4-g32")
Q32_AWQ, R70_AWQ = stored_as(Q32, "awq4-g128"), stored_as(R70, "awq4-g128")

TABLE: Mapping[str, Row] = {
    "Coder-Next, BF16": Row(
        NEXT,
        NEXT_64K,
        "no",
        {"weights": 37.2, "kv_cache": 0.75, "overhead": 1.6, "total": 39.5, "budget": 20.24},
        gpus=4,
    ),
    "Coder-Next, FP8": Row(
        NEXT_FP8,
        NEXT_64K,
        "no",
        {"weights": 19.07, "kv_cache": 0.75, "overhead": 1.6, "total": 21.4, "budget": 20.24, "margin": -1.2},
        gpus=4,
    ),
    "Coder-Next, FP8, careful": Row(
        NEXT_FP8,
        f"{NEXT_64K} {CAREFUL}",
        "maybe",
        {"weights": 19.07, "kv_cache": 0.75, "overhead": 0.77, "total": 20.6, "budget": 20.9, "margin": 0.3},
        gpus=4,
    ),
    "Coder-Next, 4 bits": Row(
        NEXT_4BIT,
        NEXT_64K,
        "yes",
        {"weights": 10.7, "kv_cache": 0.75, "overhead": 1.6, "total": 13.1, "margin": 7.1},
        gpus=4,
    ),
    "Coder-Next, FP8, eight A10G": Row(NEXT_FP8, f"{NEXT_64K} -pp 2", "yes", {"weights": 9.6, "total": 11.54}, gpus=8),
    "Coder-Next, FP8, four L40S": Row(NEXT_FP8, NEXT_64K, "yes", {"weights": 19.1, "total": 21.4}, gpus=4, gpu=L40S),
    "32B, BF16, one A10G": Row(Q32, "--max-model-len 8192", "no", {"weights": 61.0, "total": 64.58}),
    "32B, BF16, four A10G": Row(
        Q32,
        "-tp 4 --max-model-len 32768",
        "yes",
        {"weights": 15.3, "kv_cache": 2.0, "overhead": 1.6, "total": 18.8, "margin": 1.4},
        gpus=4,
    ),
    "32B, AWQ, 4k, careful": Row(
        Q32_AWQ,
        f"--max-model-len 4096 {CAREFUL}",
        "yes",
        {"weights": 18.0, "kv_cache": 1.0, "overhead": 0.75, "total": 19.75, "budget": 20.9},
    ),
    "32B, AWQ, 8k, careful": Row(
        Q32_AWQ, f"--max-model-len 8192 {CAREFUL}", "maybe", {"weights": 18.0, "kv_cache": 2.0, "total": 20.75}
    ),
    "32B, AWQ, 8k, as it comes": Row(
        Q32_AWQ, "--max-model-len 8192", "no", {"weights": 18.0, "total": 21.55}, max_tokens=2810
    ),
    "70B, BF16": Row(R70, "-tp 4 --max-model-len 8192", "no", {"weights": 32.9, "total": 35.05}, gpus=4),
    "70B, BF16, told to be AWQ": Row(R70, "-tp 4 --quantization awq", "no", {}, gpus=4),
    "70B, AWQ": Row(
        R70_AWQ,
        "-tp 4 --max-model-len 65536",
        "yes",
        {"weights": 9.3, "kv_cache": 5.0, "overhead": 1.6, "total": 15.8, "margin": 4.4},
        gpus=4,
    ),
    "70B, FP8 while it loads": Row(
        R70,
        "-tp 4 --max-model-len 16384 --quantization fp8",
        "maybe",
        {"weights": 16.9, "kv_cache": 1.25, "overhead": 1.6, "total": 19.7, "margin": 0.5},
        gpus=4,
    ),
    "8B, its own length": Row(
        L8, "", "no", {"weights": 14.96, "kv_cache": 16.0, "overhead": 1.3, "total": 32.3}, max_tokens=32267
    ),
    "8B, 32k": Row(L8, "--max-model-len 32768", "no", {"kv_cache": 4.0, "total": 20.3}, max_tokens=32267),
    "8B, 16k": Row(
        L8,
        "--max-model-len 16384",
        "yes",
        {"weights": 14.96, "kv_cache": 2.0, "overhead": 1.3, "total": 18.3, "margin": 1.9},
    ),
}
"""Every row of the comparison with vLLM's own arithmetic and logs. It rounds to one figure after the point, mostly."""


@pytest.mark.parametrize("name", TABLE)
def test_a_row_that_was_compared_with_vllm_comes_out_alike(name: str) -> None:
    row = TABLE[name]
    verdict = ask(row.geometry, row.arguments, gpu=row.gpu, gpus=row.gpus)
    assert verdict.answer == row.answer
    found = {term: getattr(verdict.terms, term) for term in row.terms}
    assert found == pytest.approx(row.terms, abs=0.1)
    assert row.max_tokens is None or verdict.max_tokens == pytest.approx(row.max_tokens, abs=10)


def test_a_row_that_vllm_does_not_even_start_has_no_sum() -> None:
    verdict = ask(R70, "-tp 4 --quantization awq", gpus=4)
    assert (verdict.answer, verdict.terms, verdict.flag) == (Answer.NO, None, "--quantization")


def test_the_reason_is_the_arithmetic() -> None:
    assert ask(Q32, "--max-model-len 8192").reason == (
        "it needs 61.0 (weights) + 2.0 (KV cache of 8192 tokens) + 1.6 (overhead) = 64.6 GiB a GPU; "
        "0.92 of an A10G's 22 GiB is 20.2: 44.3 GiB too few"
    )


def test_where_a_shorter_context_would_do_the_reason_names_it() -> None:
    verdict = ask(L8, "")
    assert verdict.max_tokens == pytest.approx(32267, abs=10)
    assert f"a --max-model-len of up to {verdict.max_tokens} would" in verdict.reason
    assert ask(L8, f"--max-model-len {verdict.max_tokens}").answer is Answer.MAYBE
    assert ask(stored_as(Q32, "awq4-g128"), "--max-model-len 8192").max_tokens == pytest.approx(2810, abs=10)


@pytest.mark.parametrize(
    ("geometry", "arguments", "flag", "reason"),
    [
        (R70, "-tp 4 --quantization awq", "--quantization", "fails at start: the repository is not quantised"),
        (R70, "-tp 4 -q gptq_marlin", "--quantization", "fails at start"),
        (L8, "--max-model-len 131073", "--max-model-len", "more than the 131072 tokens"),
        (L8, "-tp 8", "--tensor-parallel-size", "ask for 8 GPUs, and the instance has 4 GPUs"),
        (L8, "-tp 2 -pp 4", "--tensor-parallel-size", "ask for 8 GPUs"),
        (L8, "-tp 4 -dp 2", "--tensor-parallel-size", "ask for 8 GPUs"),
        (L8, "-tp 3", "--tensor-parallel-size", "does not divide its 32 attention heads"),
        (replace(L8, kv_heads=6), "-tp 4", "--tensor-parallel-size", "does not go with its 6 key/value heads"),
        (
            replace(stored_as(L8, "awq4-g128"), intermediate_size=14592),
            "-tp 4",
            "--tensor-parallel-size",
            "cuts its layers to 3648",
        ),
    ],
)
def test_what_vllm_would_refuse_is_a_no_that_names_the_argument(
    geometry: Geometry, arguments: str, flag: str, reason: str
) -> None:
    verdict = ask(geometry, arguments, gpus=4)
    assert (verdict.answer, verdict.flag, verdict.terms) == (Answer.NO, flag, None)
    assert reason in verdict.reason


def test_blocks_of_fp8_must_not_be_cut() -> None:
    verdict = ask(stored_as(NEXT, "fp8-block"), "-tp 8 --max-model-len 65536", gpus=8)
    assert "cuts its layers to 64, which is no multiple of the 128" in verdict.reason


def test_experts_of_four_bits_may_be_cut_smaller_than_a_group() -> None:
    assert ask(stored_as(NEXT, "awq4-g128"), "-tp 8 --max-model-len 65536", gpus=8).answer is Answer.YES


def test_a_quantised_repository_may_name_its_own_quantisation() -> None:
    quantised = stored_as(R70, "awq4-g128")
    with_it = ask(quantised, "-tp 4 --max-model-len 8192 --quantization awq_marlin", gpus=4)
    assert with_it == ask(quantised, "-tp 4 --max-model-len 8192", gpus=4)


def test_a_longer_context_than_the_models_is_allowed_where_it_is_stretched_by_hand() -> None:
    stretched = """--max-model-len 131073 --hf-overrides '{"rope_scaling": {}}'"""
    assert ask(L8, stretched).flag is None


def test_a_head_that_cannot_be_shared_further_is_kept_on_every_gpu() -> None:
    four, eight = (ask(replace(L8, kv_heads=4), f"-tp {n} --max-model-len 8192", gpus=n).terms for n in (4, 8))
    assert four
    assert eight
    assert four.kv_cache == eight.kv_cache


def test_a_kv_cache_of_eight_bits_is_half_as_large() -> None:
    whole, half = (ask(L8, f"--max-model-len 8192 --kv-cache-dtype {kind}").terms for kind in ("auto", "fp8_e4m3"))
    assert whole
    assert half
    assert half.kv_cache == whole.kv_cache / 2


def test_a_length_left_to_vllm_needs_room_for_a_common_one() -> None:
    assert ask(L8, "--max-model-len auto").terms == ask(L8, "--max-model-len 8192").terms
    assert ask(L8, "--max-model-len -1").terms == ask(L8, "--max-model-len 8192").terms


def test_large_gpus_get_larger_batches_by_default() -> None:
    h100 = prices().instance_types["p5.4xlarge"].gpu
    default = ask(L8, "--max-model-len 8192", gpu=h100).terms
    stated = ask(L8, "--max-model-len 8192 --max-num-seqs 1024 --max-num-batched-tokens 8192", gpu=h100).terms
    small = ask(L8, "--max-model-len 8192 --max-num-seqs 256 --max-num-batched-tokens 2048", gpu=h100).terms
    assert default == stated
    assert default
    assert small
    assert default.overhead > small.overhead + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-tp 4", EngineArguments(tensor_parallel=4)),
        (
            "--tensor-parallel-size=4 --pipeline-parallel-size=2",
            EngineArguments(tensor_parallel=4, pipeline_parallel=2),
        ),
        ("--max-model-len 64K", EngineArguments(max_model_len=65536)),
        ("--max-model-len=32k", EngineArguments(max_model_len=32000)),
        ("--max_model_len 1.5K", EngineArguments(max_model_len=1536)),
        ("--max-model-len 8192 --max-model-len 4096", EngineArguments(max_model_len=4096)),
        ("--gpu-memory-utilization=0.95 --enforce-eager", EngineArguments(utilization=0.95, eager=True)),
        ("--max-num-seqs 16 -q fp8", EngineArguments(max_num_seqs=16, quantization="fp8")),
        ("--enable-auto-tool-choice --tool-call-parser hermes", EngineArguments()),
        ("--chat-template '-tp 4'", EngineArguments()),
    ],
)
def test_arguments_are_read_as_vllm_reads_them(text: str, expected: EngineArguments) -> None:
    assert EngineArguments.parse(shlex.split(text)) == expected


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("-tp four", "-tp"),
        ("-tp 0", "-tp"),
        ("--max-model-len 8x", "--max-model-len"),
        ("--max-model-len", "--max-model-len"),
        ("--gpu-memory-utilization 1.2", "--gpu-memory-utilization"),
        ("--gpu-memory-utilization nan", "--gpu-memory-utilization"),
        ("--max-num-seqs=-1", "--max-num-seqs"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_named(text: str, flag: str) -> None:
    with pytest.raises(InvalidArguments) as refused:
        EngineArguments.parse(shlex.split(text))
    assert refused.value.flag == flag


@given(tokens=st.integers(1, 131072), seqs=st.integers(1, 512), share=st.floats(0.1, 1.0))
def test_more_to_keep_never_fits_better(tokens: int, seqs: int, share: float) -> None:
    arguments = EngineArguments(max_model_len=tokens, max_num_seqs=seqs, utilization=share)
    terms = check(L8, arguments, gpu=A10G, gpus=1).terms
    more = check(L8, replace(arguments, max_model_len=tokens + 1, max_num_seqs=seqs + 1), gpu=A10G, gpus=1).terms
    if terms and more:
        assert more.margin < terms.margin
