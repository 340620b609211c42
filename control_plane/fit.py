"""Will a model fit the GPUs of an instance type? Arithmetic only, per GPU, in GiB. Pure.

    weights   = (linear * bytes + 2 * embedding) / (TP * PP) + 2 * replicated
    KV cache  = 2 * layers / PP * max(1, KV heads / TP) * head size * bytes * --max-model-len
    overhead  = logits of every sequence, activations of one batch, CUDA and NCCL, CUDA graphs
    budget    = --gpu-memory-utilization * what torch sees of the GPU

Weights and KV cache agree with what vLLM 0.32 itself logs. The overhead is an estimate that nobody measured on more
than one GPU, so a small margin is a "maybe", and "yes" wants 0.5 GiB of it on one GPU, 1 GiB on several.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from control_plane.geometry import GIB, Geometry, Scheme
from control_plane.prices import Gpu

DEFAULT_UTILIZATION = 0.92

_CUDA_GIB = 0.35  # context, cuBLAS; one GPU
_CUDA_AND_NCCL_GIB = 0.6  # the same, and what GPUs need to talk
_GRAPHS_GIB = 0.4
_MIN_STATE_GIB = 0.05  # recurrent state is kept in pages
_MARGIN_GIB = 0.5
_MARGIN_OF_SEVERAL_GIB = 1.0
_AUTO_LEN_TOKENS = 8192  # what --max-model-len auto should at least find room for


class Answer(StrEnum):
    YES = "yes"
    MAYBE = "maybe"  # the margin is smaller than what the estimate may be wrong by
    NO = "no"


@dataclass(frozen=True)
class Terms:
    """The sum, per GPU, in GiB."""

    weights: float
    kv_cache: float
    state: float
    overhead: float
    budget: float

    @property
    def total(self) -> float:
        return self.weights + self.kv_cache + self.state + self.overhead

    @property
    def margin(self) -> float:
        return self.budget - self.total


@dataclass(frozen=True)
class Verdict:
    """Whether it fits, and one sentence that says why, with the arithmetic."""

    answer: Answer
    reason: str
    terms: Terms | None = None  # None where the engine would refuse before any arithmetic
    max_tokens: int | None = None  # the longest --max-model-len that would leave no margin: what the cache has room for
    context: int | None = None  # the tokens that one request must find room for
    flag: str | None = None  # the argument that is to blame, where it is one


class InvalidArguments(ValueError):
    """vLLM's arguments cannot be read; ``flag`` is the first that cannot."""

    def __init__(self, flag: str, value: str) -> None:
        super().__init__(f"{flag} cannot be {value!r}")
        self.flag = flag


@dataclass(frozen=True)
class EngineArguments:
    """Those of vLLM's arguments that decide about memory."""

    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    max_model_len: int | None = None  # tokens; None: the model's own, 0: as many as fit
    utilization: float = DEFAULT_UTILIZATION
    max_num_seqs: int | None = None
    max_batched_tokens: int | None = None
    eager: bool = False
    kv_cache_dtype: str = "auto"
    quantization: str | None = None
    stretched: bool = False  # the model's own longest context is overridden

    @classmethod
    def parse(cls, words: Sequence[str]) -> EngineArguments:
        """From a command line; ``--flag value`` and ``--flag=value``, the last wins. Raises InvalidArguments."""
        found: dict[str, Any] = {}
        rest = list(words)
        while rest:
            flag, equals, value = rest.pop(0).partition("=")
            flag = flag.replace("_", "-") if flag.startswith("--") else flag
            if flag in _SWITCHES:
                found[_SWITCHES[flag]] = True
            elif flag in _OPTIONS:
                name, read = _OPTIONS[flag]
                if not equals:
                    value = rest.pop(0) if rest else ""
                try:
                    found[name] = read(value)
                except ValueError:
                    raise InvalidArguments(flag, value) from None
        return cls(**found)

    @property
    def gpus(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel


def check(geometry: Geometry, arguments: EngineArguments, *, gpu: Gpu, gpus: int) -> Verdict:
    """Whether a model fits an instance with so many of these GPUs."""
    refusal = _refusal(geometry, arguments, gpus=gpus)
    if refusal:
        flag, reason = refusal
        return Verdict(Answer.NO, reason, flag=flag)
    terms = _terms(geometry, arguments, gpu=gpu)
    wanted = _MARGIN_OF_SEVERAL_GIB if _shards(arguments) > 1 else _MARGIN_GIB
    answer = Answer.NO if terms.margin < 0 else Answer.MAYBE if terms.margin < wanted else Answer.YES
    left = (terms.margin + terms.kv_cache) * GIB
    max_tokens = max(0, int(left / _kv_bytes_per_token(geometry, arguments)))
    context = _context(geometry, arguments)
    reason = _sentence(terms, arguments, gpu=gpu, tokens=context)
    if answer is Answer.NO and max_tokens >= 1024:
        reason += f"; a --max-model-len of up to {max_tokens} would"
    return Verdict(answer, reason, terms, max_tokens, context)


# -- what the engine refuses, whatever the memory -------------------------------------------------------------------


def _refusal(geometry: Geometry, arguments: EngineArguments, *, gpus: int) -> tuple[str, str] | None:
    """The argument with which vLLM would not start at all, and why; None if it would."""
    if (reason := _quantization_refusal(geometry, arguments)) is not None:
        return "--quantization", reason
    longest = geometry.max_position
    if longest and (arguments.max_model_len or 0) > longest and not arguments.stretched:
        told = f"--max-model-len {arguments.max_model_len} is more than the {longest} tokens that the model allows"
        return "--max-model-len", told
    if arguments.gpus > gpus:
        told = f"its arguments ask for {_gpus(arguments.gpus)}, and the instance has {_gpus(gpus)}"
        return "--tensor-parallel-size", told
    if (reason := _parallel_refusal(geometry, arguments.tensor_parallel)) is not None:
        return "--tensor-parallel-size", f"--tensor-parallel-size {arguments.tensor_parallel} {reason}"
    return None


def _parallel_refusal(geometry: Geometry, parallel: int) -> str | None:
    heads = geometry.attention_heads
    if heads and heads % parallel:
        return f"does not divide its {heads} attention heads"
    if geometry.kv_heads % parallel and parallel % geometry.kv_heads:
        return f"does not go with its {geometry.kv_heads} key/value heads"
    scheme, group = geometry.quantization.scheme, geometry.quantization.group
    blocks = scheme is Scheme.FP8_BLOCK or not geometry.experts_per_token
    if scheme is not Scheme.BF16 and group and blocks and geometry.intermediate_size % (parallel * group):
        shard = geometry.intermediate_size / parallel
        return f"cuts its layers to {shard:g}, which is no multiple of the {group} parameters of a scale"
    return None


def _quantization_refusal(geometry: Geometry, arguments: EngineArguments) -> str | None:
    asked = arguments.quantization
    if asked is None or geometry.quantization.scheme is not Scheme.BF16:
        return None
    if any(word in asked for word in ("awq", "gptq", "compressed-tensors", "moe_wna16")):
        return (
            f"--quantization {asked} fails at start: the repository is not quantised (its config.json has no "
            "quantization_config); name a repository that is"
        )
    return None


# -- the arithmetic -------------------------------------------------------------------------------------------------


def _terms(geometry: Geometry, arguments: EngineArguments, *, gpu: Gpu) -> Terms:
    state = max(_MIN_STATE_GIB, geometry.state_gib / arguments.tensor_parallel) if geometry.state_gib else 0.0
    return Terms(
        weights=_weights_bytes(geometry, arguments) / GIB,
        kv_cache=_kv_bytes_per_token(geometry, arguments) * _context(geometry, arguments) / GIB,
        state=state,
        overhead=_overhead_gib(geometry, arguments, gpu=gpu),
        budget=arguments.utilization * gpu.gib,
    )


def _weights_bytes(geometry: Geometry, arguments: EngineArguments) -> float:
    linear = geometry.linear_bytes or geometry.linear * geometry.quantization.bytes_per_parameter
    if geometry.quantization.scheme is Scheme.BF16 and (arguments.quantization or "").startswith("fp8"):
        linear = geometry.linear  # quantised while it is loaded
    return (linear + 2 * geometry.embedding) / _shards(arguments) + 2 * geometry.replicated


def _kv_bytes_per_token(geometry: Geometry, arguments: EngineArguments) -> float:
    heads = max(1.0, geometry.kv_heads / arguments.tensor_parallel)  # every GPU keeps at least one
    size = _KV_BYTES.get(arguments.kv_cache_dtype.split("_")[0], 2.0)
    return 2 * geometry.layers / arguments.pipeline_parallel * heads * geometry.head_dim * size


def _overhead_gib(geometry: Geometry, arguments: EngineArguments, *, gpu: Gpu) -> float:
    sequences = arguments.max_num_seqs or (1024 if gpu.large_batches else 256)
    tokens = arguments.max_batched_tokens or (8192 if gpu.large_batches else 2048)
    inner = 3 * geometry.intermediate_size / arguments.tensor_parallel
    if geometry.experts_per_token:
        a_token = 2 * geometry.experts_per_token * (inner + geometry.hidden_size)
    else:
        a_token = 2 * (4 * geometry.hidden_size + inner)
    logits = 3 * sequences * geometry.vocab_size * 4  # in 32 bits, with the sampler's copies
    cuda = _CUDA_AND_NCCL_GIB if _shards(arguments) > 1 else _CUDA_GIB
    return (logits + tokens * a_token) / GIB + cuda + (0.0 if arguments.eager else _GRAPHS_GIB)


def _context(geometry: Geometry, arguments: EngineArguments) -> int:
    """The tokens that one request must find room for."""
    longest = geometry.max_position or 0
    if arguments.max_model_len == 0:
        return min(_AUTO_LEN_TOKENS, longest or _AUTO_LEN_TOKENS)
    return arguments.max_model_len or longest


def _shards(arguments: EngineArguments) -> int:
    return arguments.tensor_parallel * arguments.pipeline_parallel


def _sentence(terms: Terms, arguments: EngineArguments, *, gpu: Gpu, tokens: int) -> str:
    cache = f"{terms.kv_cache + terms.state:.1f} (KV cache of {tokens} tokens)"
    total = f"{terms.weights:.1f} (weights) + {cache} + {terms.overhead:.1f} (overhead) = {terms.total:.1f} GiB a GPU"
    budget = f"{arguments.utilization:g} of an {gpu.name}'s {gpu.gib:g} GiB is {terms.budget:.1f}"
    rest = f"{terms.margin:.1f} GiB to spare" if terms.margin >= 0 else f"{-terms.margin:.1f} GiB too few"
    return f"it needs {total}; {budget}: {rest}"


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


# -- vLLM's words ---------------------------------------------------------------------------------------------------

_KV_BYTES: Mapping[str, float] = {"fp8": 1.0, "int8": 1.0, "nvfp4": 0.5625, "int4": 0.5625}  # others: 16 bits

_SUFFIXES: Mapping[str, int] = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise ValueError
    return int(text)


def _tokens(text: str) -> int:
    """As vLLM reads lengths: 65536, 64K (binary), 64k (decimal), 1.5k; ``auto`` and -1 are 0 here."""
    if text in ("auto", "-1"):
        return 0
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([kmgKMG]?)", text)
    if not found or float(found[1]) <= 0:
        raise ValueError
    return int(float(found[1]) * _SUFFIXES.get(found[2], 1))


def _share(text: str) -> float:
    value = float(text)
    if not (0 < value <= 1 and math.isfinite(value)):
        raise ValueError
    return value


_SWITCHES: Mapping[str, str] = {"--enforce-eager": "eager"}

_OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "--tensor-parallel-size": ("tensor_parallel", _count),
    "-tp": ("tensor_parallel", _count),
    "--pipeline-parallel-size": ("pipeline_parallel", _count),
    "-pp": ("pipeline_parallel", _count),
    "--data-parallel-size": ("data_parallel", _count),
    "-dp": ("data_parallel", _count),
    "--max-model-len": ("max_model_len", _tokens),
    "--gpu-memory-utilization": ("utilization", _share),
    "--max-num-seqs": ("max_num_seqs", _count),
    "--max-num-batched-tokens": ("max_batched_tokens", _tokens),
    "--kv-cache-dtype": ("kv_cache_dtype", str),
    "--quantization": ("quantization", str),
    "-q": ("quantization", str),
    "--hf-overrides": ("stretched", bool),
    "--rope-scaling": ("stretched", bool),
}
