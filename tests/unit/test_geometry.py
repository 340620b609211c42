"""What a repository's config.json, or an operator's numbers, tell of a model's shape."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.geometry import GEOMETRY_KEYS, Geometry, Quantization, Scheme, geometry_problems
from tests import geometries

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
}
LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "intermediate_size": 28672,
}
QWEN_32B = LLAMA_70B | {
    "model_type": "qwen3",
    "hidden_size": 5120,
    "num_hidden_layers": 64,
    "head_dim": 128,
    "intermediate_size": 25600,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rope_scaling": None,
    "tie_word_embeddings": False,
}
CODER_30B = QWEN_32B | {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
CODER_NEXT = CODER_30B | {
    "model_type": "qwen3_next",
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 128,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
}
MIXTRAL = LLAMA_8B | {
    "model_type": "mixtral",
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "rope_scaling": None,
}
NUMBERS: dict[str, Any] = dict(geometries.LLAMA_8B)


def shape(config: dict[str, Any], weights_bytes: int | None = None) -> Geometry:
    found = Geometry.of_config(config, weights_bytes)
    assert found
    return found


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        (LLAMA_8B, 8.030),
        (LLAMA_70B, 70.554),
        (QWEN_32B, 32.762),
        (CODER_30B, 30.532),
        (CODER_NEXT, 79.674),
        (MIXTRAL, 46.703),
    ],
)
def test_the_parameters_of_a_family_are_those_that_were_counted(config: dict[str, Any], billions: float) -> None:
    found = shape(config)
    assert found.linear + found.embedding + found.replicated == pytest.approx(billions * 1e9, abs=6e5)


def test_a_hybrid_keeps_a_cache_in_some_layers_and_a_state_in_the_others() -> None:
    found = shape(CODER_NEXT)
    assert (found.layers, found.kv_heads, found.head_dim, found.experts_per_token) == (12, 2, 256, 10)
    assert found.state_gib > 0
    assert shape(QWEN_32B).state_gib == 0


def test_layers_without_experts_are_counted_as_such() -> None:
    dense, sparse = CODER_30B | {"mlp_only_layers": [0, 1]}, CODER_30B
    saved = 128 * 3 * 2048 * 768 - 3 * 2048 * 6144
    assert shape(sparse).linear - shape(dense).linear == 2 * saved
    assert shape(CODER_30B | {"decoder_sparse_step": 2}).linear < shape(dense).linear


def test_tied_embeddings_are_counted_once() -> None:
    assert shape(LLAMA_8B | {"tie_word_embeddings": True}).embedding == shape(LLAMA_8B).embedding / 2


def test_a_model_without_grouped_heads_has_as_many_of_each() -> None:
    assert shape({key: value for key, value in LLAMA_8B.items() if key != "num_key_value_heads"}).kv_heads == 32


def test_the_longest_context_is_the_stretched_one() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert shape(LLAMA_8B).max_position == 131072
    assert shape(QWEN_32B | {"max_position_embeddings": 32768, "rope_scaling": yarn}).max_position == 131072


@pytest.mark.parametrize(
    ("told", "word", "size"),
    [
        (None, "bf16", 2.0),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq4-g128", 0.5195),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "awq4-g64", 0.5391),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "gptq4-g32", 0.5625),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "gptq8", 1.0),
        ({"quant_method": "fp8"}, "fp8", 1.0),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block", 1.0156),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}},
            },
            "int4-g128",
            0.5156,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
            },
            "fp8",
            1.0,
        ),
    ],
)
def test_a_quantisation_is_known_by_what_config_json_says(told: Any, word: str, size: float) -> None:
    found = shape(LLAMA_8B | ({"quantization_config": told} if told else {})).quantization
    assert found.word == word
    assert found.bytes_per_parameter == pytest.approx(size, abs=1e-4)
    assert Quantization.of_word(word) == found


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "gpt_oss"},
        {"model_type": None},
        {"quantization_config": {"quant_method": "mxfp4"}},
        {"quantization_config": {"quant_method": "gptq", "bits": 3, "group_size": 128}},
        {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {}}},
        {
            "quantization_config": {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float"}}},
            }
        },
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"vocab_size": None},
    ],
)
def test_what_is_not_known_is_not_guessed(change: dict[str, Any]) -> None:
    assert Geometry.of_config(LLAMA_8B | change) is None


def test_what_a_quantised_repository_stores_is_believed() -> None:
    quantised = LLAMA_8B | {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
    by_config = shape(quantised)
    embedding = int(2 * (by_config.embedding + by_config.replicated))
    assert shape(quantised, embedding + 5_000_000_000).linear_bytes == 5_000_000_000
    assert shape(quantised, embedding + 50).linear_bytes is None  # a size that cannot be meant
    assert shape(LLAMA_8B, 32_000_000_000).linear_bytes is None  # 32 bits on disk are loaded as 16


def test_numbers_by_hand_give_the_same_shape() -> None:
    by_hand, read = Geometry.of_numbers(NUMBERS | {"maxModelLen": 131072, "attentionHeads": 32}), shape(LLAMA_8B)
    assert by_hand.linear + by_hand.embedding == read.linear + read.embedding + read.replicated
    for name in ("embedding", "layers", "kv_heads", "head_dim", "hidden_size", "intermediate_size", "vocab_size"):
        assert getattr(by_hand, name) == getattr(read, name)
    assert (by_hand.max_position, by_hand.attention_heads) == (131072, 32)
    assert Geometry.of_numbers(NUMBERS | {"quantization": "awq4-g128"}).quantization.scheme is Scheme.AWQ


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        (5, "must be an object"),
        (NUMBERS | {"heads": 5}, "has no number 'heads'"),
        (NUMBERS | {"layers": 0}, "layers is 0: it must be the number of layers"),
        (NUMBERS | {"layers": True}, "layers is True"),
        (NUMBERS | {"parameters": 8.03e9}, "parameters is 8030000000.0"),
        (NUMBERS | {"quantization": "q4_k_m"}, "quantization is 'q4_k_m': it must be a word such as bf16"),
        (NUMBERS | {"quantization": "bf16-g128"}, "quantization is 'bf16-g128'"),
        (NUMBERS | {"expertsPerToken": -1}, "expertsPerToken is -1"),
        (NUMBERS | {"embeddingParameters": 8030261248}, "must be fewer than its parameters"),
        ({}, "lacks parameters (the number of all parameters, as in 32762000000), embeddingParameters"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(numbers: Any, told: str) -> None:
    (problem,) = geometry_problems(numbers)
    assert told in problem


def test_every_number_that_is_needed_is_asked_for() -> None:
    assert geometry_problems(NUMBERS) == []
    for key in GEOMETRY_KEYS:
        (problem,) = geometry_problems({name: value for name, value in NUMBERS.items() if name != key})
        assert f"lacks {key}" in problem
