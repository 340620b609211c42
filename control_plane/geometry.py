"""The shape of a model, as far as it decides how much GPU memory it takes. Pure.

It is read from a repository's ``config.json`` (families and quantisations that we know, None for any other), or from
numbers that the operator gives as ``geometry`` of a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

GIB = 2**30

_MOST = 10**15  # of whatever a geometry counts: no model is as large

GEOMETRY_KEYS = {
    "parameters": "the number of all parameters, as in 32762000000",
    "embeddingParameters": "the number of those of embedding and output head",
    "layers": "the number of layers with attention",
    "kvHeads": "the number of key/value heads",
    "headDim": "the size of a head",
    "hiddenSize": "the hidden size",
    "intermediateSize": "the intermediate size of a layer, or of one expert",
    "vocabSize": "the size of the vocabulary",
}
"""What a geometry given by hand must have, all whole numbers; the embedding and the output head stay in 16 bits."""

OPTIONAL_GEOMETRY_KEYS = {
    "expertsPerToken": "the number of experts a token uses, 0 where there are none",
    "attentionHeads": "the number of query heads",
    "maxModelLen": "the longest context that the model allows, in tokens",
    "quantization": "a word such as bf16, fp8, fp8-block, awq4-g128, gptq4-g32 or int8",
}


class Scheme(StrEnum):
    """How the weights of linear layers are stored."""

    BF16 = "bf16"  # or fp16
    FP8 = "fp8"  # one scale a tensor or channel
    FP8_BLOCK = "fp8-block"  # a scale for every block of 128 x 128
    AWQ = "awq"
    GPTQ = "gptq"
    INT = "int"  # compressed-tensors with integers


_WORD = re.compile(r"(?P<scheme>bf16|fp8-block|fp8|awq|gptq|int)(?P<bits>4|8)?(-g(?P<group>[1-9]\d{1,3}))?")


@dataclass(frozen=True)
class Quantization:
    """What a parameter of a linear layer takes."""

    scheme: Scheme = Scheme.BF16
    bits: int = 16
    group: int | None = None  # parameters that share a scale; None: a whole channel or more

    @classmethod
    def of_word(cls, word: str) -> Quantization | None:
        """From ``awq4-g128`` and the like; None for a word that is none of ours."""
        found = _WORD.fullmatch(word)
        if not found:
            return None
        scheme = Scheme(found["scheme"])
        whole = {Scheme.BF16: 16, Scheme.FP8: 8, Scheme.FP8_BLOCK: 8}
        if scheme in whole:
            group = 128 if scheme is Scheme.FP8_BLOCK else None
            return None if found["bits"] or found["group"] else cls(scheme, whole[scheme], group)
        return cls(scheme, int(found["bits"] or 4), int(found["group"]) if found["group"] else None)

    @property
    def word(self) -> str:
        if self.scheme in (Scheme.BF16, Scheme.FP8, Scheme.FP8_BLOCK):
            return str(self.scheme)
        return f"{self.scheme}{self.bits}" + (f"-g{self.group}" if self.group else "")

    @property
    def bytes_per_parameter(self) -> float:
        if self.scheme is Scheme.FP8_BLOCK:
            # On GPUs without FP8 units Marlin spreads the scales of blocks over groups of 128.
            return 1 + 2 / 128
        size = self.bits / 8
        if self.group:
            size += 2 / self.group  # a 16-bit scale a group
            if self.scheme is Scheme.AWQ:
                size += self.bits / 8 / self.group  # and a zero point
        return size


@dataclass(frozen=True)
class Geometry:
    """What of a model's shape decides how much memory it takes. Parameters are counted, not bytes."""

    linear: float  # in layers that quantisation reaches, experts included
    embedding: float  # embedding and output head; once where they are the same
    layers: int  # with attention, so with a key/value cache
    kv_heads: int
    head_dim: int
    hidden_size: int
    intermediate_size: int  # of one expert, where there are experts
    vocab_size: int
    replicated: float = 0.0  # on every GPU alike: norms, routers
    experts_per_token: int = 0
    attention_heads: int | None = None
    state_gib: float = 0.0  # recurrent state of layers without attention, on one GPU
    max_position: int | None = None  # the longest context the model allows, tokens
    quantization: Quantization = Quantization()
    linear_bytes: float | None = None  # what the repository stores for `linear`, where that is known

    @classmethod
    def of_config(cls, config: Mapping[str, Any], weights_bytes: int | None = None) -> Geometry | None:
        """From a repository's ``config.json`` and the size of its weights; None for a family we do not know."""
        family = _FAMILIES.get(str(config.get("model_type")))
        quantization = _quantization(config)
        if family is None or quantization is None:
            return None
        try:
            shape = replace(family(config), quantization=quantization, max_position=_max_position(config))
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None  # a config.json that is not what its model_type says
        return shape._measured(weights_bytes)

    @classmethod
    def of_numbers(cls, numbers: Mapping[str, Any]) -> Geometry:
        """From a model's ``geometry`` that ``geometry_problems`` finds nothing wrong with."""
        quantization = Quantization.of_word(numbers.get("quantization", "bf16"))
        if quantization is None:
            raise ValueError("geometry_problems was not asked")
        return cls(
            linear=float(numbers["parameters"] - numbers["embeddingParameters"]),
            embedding=float(numbers["embeddingParameters"]),
            layers=numbers["layers"],
            kv_heads=numbers["kvHeads"],
            head_dim=numbers["headDim"],
            hidden_size=numbers["hiddenSize"],
            intermediate_size=numbers["intermediateSize"],
            vocab_size=numbers["vocabSize"],
            experts_per_token=numbers.get("expertsPerToken", 0),
            attention_heads=numbers.get("attentionHeads"),
            max_position=numbers.get("maxModelLen"),
            quantization=quantization,
        )

    def _measured(self, weights_bytes: int | None) -> Geometry:
        # A quantised repository may leave some layers in 16 bits; what it stores knows better than its config.
        if weights_bytes is None or self.quantization.scheme is Scheme.BF16:
            return self
        rest = weights_bytes - 2 * (self.embedding + self.replicated)
        plausible = 0.4 <= rest / self.linear <= 2.1
        return replace(self, linear_bytes=rest) if plausible else self


@dataclass(frozen=True)
class Unread:
    """Why a repository's geometry is not known."""

    reason: str  # one sentence
    asked: bool  # False: nobody wanted it to be asked, so its silence is no news


ReadGeometry = Callable[[str, str | None], Geometry | Unread]
"""A repository and its revision to what can be known of it."""


def geometry_problems(numbers: object) -> Sequence[str]:
    """What is wrong with a geometry given by hand, a sentence each."""
    if not isinstance(numbers, Mapping):
        return ["geometry must be an object of numbers"]
    meanings = {**GEOMETRY_KEYS, **OPTIONAL_GEOMETRY_KEYS}
    problems = [f"geometry has no number {key!r}" for key in sorted(set(numbers) - set(meanings))]
    lacking = [f"{key} ({meaning})" for key, meaning in GEOMETRY_KEYS.items() if key not in numbers]
    if lacking:
        problems.append(f"geometry lacks {', '.join(lacking)}")
    for key, meaning in meanings.items():
        if key in numbers and not _is_plausible(key, numbers[key]):
            problems.append(f"geometry's {key} is {numbers[key]!r}: it must be {meaning}")
    if not problems and numbers["embeddingParameters"] >= numbers["parameters"]:
        problems.append("geometry's embeddingParameters must be fewer than its parameters")
    return problems


def _is_plausible(key: str, value: object) -> bool:
    if key == "quantization":
        return isinstance(value, str) and Quantization.of_word(value) is not None
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return (0 if key == "expertsPerToken" else 1) <= value <= _MOST


# -- families ------------------------------------------------------------------------------------------------------


def _attention(config: Mapping[str, Any], *, gated: bool = False) -> int:
    """Parameters of one layer's attention."""
    hidden, heads, size = config["hidden_size"], config["num_attention_heads"], _head_dim(config)
    queries = hidden * heads * size * (2 if gated else 1)
    return int(queries + 2 * hidden * _kv_heads(config) * size + heads * size * hidden)


def _shape(config: Mapping[str, Any], *, linear: float, replicated: float, layers: int, inner: int) -> Geometry:
    embedding = config["vocab_size"] * config["hidden_size"]
    norms = (2 * config["num_hidden_layers"] + 1) * config["hidden_size"]
    return Geometry(
        linear=float(linear),
        embedding=float(embedding * (1 if config.get("tie_word_embeddings") else 2)),
        layers=layers,
        kv_heads=_kv_heads(config),
        head_dim=_head_dim(config),
        hidden_size=config["hidden_size"],
        intermediate_size=inner,
        vocab_size=config["vocab_size"],
        replicated=float(replicated + norms),
        attention_heads=config["num_attention_heads"],
    )


def _dense(config: Mapping[str, Any]) -> Geometry:
    """Llama and its likes."""
    layers, inner = config["num_hidden_layers"], config["intermediate_size"]
    linear = layers * (_attention(config) + 3 * config["hidden_size"] * inner)
    return _shape(config, linear=linear, replicated=0, layers=layers, inner=inner)


def _experts(config: Mapping[str, Any]) -> Geometry:
    """Mixtures of experts with attention in every layer."""
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    sparse = sum(_is_sparse(config, layer) for layer in range(layers))
    inner = config.get("moe_intermediate_size") or config["intermediate_size"]
    linear = layers * _attention(config) + sparse * _mixture(config, inner)
    linear += (layers - sparse) * 3 * hidden * config["intermediate_size"]
    shape = _shape(config, linear=linear, replicated=sparse * _router(config), layers=layers, inner=inner)
    return replace(shape, experts_per_token=config["num_experts_per_tok"])


def _hybrid(config: Mapping[str, Any]) -> Geometry:
    """Qwen3-Next: attention in every fourth layer, a gated delta net in the others, experts in all."""
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    attending = layers // config.get("full_attention_interval", 4)
    keys = config["linear_num_key_heads"] * config["linear_key_head_dim"]
    values = config["linear_num_value_heads"] * config["linear_value_head_dim"]
    recurrent = hidden * (2 * keys + 2 * values) + values * hidden
    small = hidden * 2 * config["linear_num_value_heads"] + (2 * keys + values) * config["linear_conv_kernel_dim"]
    inner = config["moe_intermediate_size"]
    linear = attending * _attention(config, gated=True) + (layers - attending) * recurrent
    linear += layers * _mixture(config, inner)
    replicated = layers * _router(config) + (layers - attending) * small
    shape = _shape(config, linear=linear, replicated=replicated, layers=attending, inner=inner)
    return replace(shape, experts_per_token=config["num_experts_per_tok"], state_gib=_HYBRID_STATE_GIB)


_HYBRID_STATE_GIB = 0.16  # seen in vLLM's own arithmetic for Qwen3-Coder-Next on one GPU

_FAMILIES: Mapping[str, Callable[[Mapping[str, Any]], Geometry]] = {
    "llama": _dense,
    "mistral": _dense,
    "qwen2": _dense,
    "qwen3": _dense,
    "mixtral": _experts,
    "qwen2_moe": _experts,
    "qwen3_moe": _experts,
    "qwen3_next": _hybrid,
}


def _is_sparse(config: Mapping[str, Any], layer: int) -> bool:
    step = config.get("decoder_sparse_step", 1)
    return layer not in config.get("mlp_only_layers", ()) and (layer + 1) % step == 0


def _mixture(config: Mapping[str, Any], inner: int) -> int:
    """Parameters of one layer's experts, the shared one included."""
    shared = config.get("shared_expert_intermediate_size", 0)
    return int(3 * config["hidden_size"] * (_expert_count(config) * inner + shared))


def _router(config: Mapping[str, Any]) -> int:
    shared_gate = 1 if config.get("shared_expert_intermediate_size") else 0
    return int(config["hidden_size"] * (_expert_count(config) + shared_gate))


def _expert_count(config: Mapping[str, Any]) -> int:
    return int(config.get("num_experts") or config["num_local_experts"])


def _kv_heads(config: Mapping[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _max_position(config: Mapping[str, Any]) -> int | None:
    longest = config.get("max_position_embeddings")
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    original, factor = scaling.get("original_max_position_embeddings"), scaling.get("factor")
    if isinstance(original, int) and isinstance(factor, int | float) and scaling.get("rope_type") != "llama3":
        # YaRN's config keeps the length before it was stretched.
        longest = max(longest or 0, int(original * factor))
    return longest


# -- quantisations -------------------------------------------------------------------------------------------------


def _quantization(config: Mapping[str, Any]) -> Quantization | None:
    """None for a scheme we do not know."""
    told = config.get("quantization_config") or config.get("compression_config")
    if not told:
        return Quantization()
    match told.get("quant_method"):
        case "awq" | "gptq" as method:
            return _grouped(Scheme(method), told)
        case "fp8":
            return Quantization.of_word("fp8-block" if told.get("weight_block_size") else "fp8")
        case "compressed-tensors":
            return _compressed(told)
    return None


def _grouped(scheme: Scheme, told: Mapping[str, Any]) -> Quantization | None:
    bits, group = told.get("bits", told.get("w_bit", 4)), told.get("group_size", told.get("q_group_size", 128))
    if bits not in (4, 8) or not isinstance(group, int):
        return None
    return Quantization(scheme, bits, group if group > 0 else None)


def _compressed(told: Mapping[str, Any]) -> Quantization | None:
    """The first group of layers speaks for all; repositories with several kinds are rare."""
    groups = list((told.get("config_groups") or {}).values())
    weights = groups[0].get("weights") if groups else None
    if not isinstance(weights, Mapping) or weights.get("num_bits") not in (4, 8):
        return None
    if weights.get("type") == "float":
        if weights["num_bits"] != 8:
            return None
        return Quantization.of_word("fp8-block" if weights.get("strategy") == "block" else "fp8")
    group = weights.get("group_size")
    return Quantization(Scheme.INT, weights["num_bits"], group if isinstance(group, int) and group > 0 else None)
