"""A model small enough to make on the spot: random weights, a tokenizer of its own, nothing downloaded.

    python tiny_model.py FOLDER

Writes what an engine expects of a model's folder: a two-layer Qwen3 of a few hundred kilobytes. It answers nonsense,
by the same code paths as a real model. Needs numpy and tokenizers, which every vLLM installation has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Neither is installed beside the rehearsal: this file runs in the engine's environment.
    from numpy.typing import NDArray  # type: ignore[import-not-found]
    from tokenizers import Tokenizer  # type: ignore[import-not-found]

    Weights = Mapping[str, NDArray]

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)

# Not hidden from the text: the parsers for tool calls and reasoning look for them there.
MARKUP_TOKENS = ("<tool_call>", "</tool_call>", "<think>", "</think>")

CHAT_TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>system\\nFunctions you may call:\\n' }}
{%- for tool in tools %}{{ tool | tojson }}{{ '\\n' }}{%- endfor %}{{ '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{ message.content }}{%- endif %}
{%- for call in message.tool_calls or [] %}{{ '<tool_call>' + (call.function | tojson) + '</tool_call>' }}{%- endfor %}
{{- '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"""

VOCABULARY_TEXT = """a node wakes when somebody asks and sleeps when nobody does the first answer takes minutes the next
takes none every token is streamed as it is made and counted once at the end a short question may have a long answer
green rivers carry small boats under old bridges while seven patient birds watch from the tall trees near the water"""


@dataclass(frozen=True)
class Shape:
    """The size of the model."""

    layers: int = 2
    hidden: int = 64
    heads: int = 2
    key_value_heads: int = 1
    head_size: int = 32
    vocabulary: int = 512
    positions: int = 8192

    @property
    def inner(self) -> int:
        return 2 * self.hidden


def write(folder: Path, shape: Shape) -> None:
    """Make the model in ``folder``; the same shape gives the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(shape.vocabulary)
    vocabulary = tokenizer.get_vocab_size()
    ids = {token: tokenizer.token_to_id(token) for token in CONTROL_TOKENS}
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(shape))
    _write_json(folder / "generation_config.json", _token_ids(ids))
    weights = _weights(shape, vocabulary, quiet=sorted(ids.values()))
    _write_safetensors(folder / "model.safetensors", weights)
    # Last, because its presence says that the folder is complete.
    _write_json(folder / "config.json", {**_config(shape, vocabulary), **_token_ids(ids)})


def _tokenizer(vocabulary: int) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(CONTROL_TOKENS) - len(MARKUP_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([VOCABULARY_TEXT] * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKUP_TOKENS])
    return tokenizer


def _tokenizer_config(shape: Shape) -> Mapping[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.positions,
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _token_ids(ids: Mapping[str, int]) -> Mapping[str, int]:
    return {"bos_token_id": ids[END_OF_TEXT], "eos_token_id": ids[TURN_END], "pad_token_id": ids[END_OF_TEXT]}


def _config(shape: Shape, vocabulary: int) -> Mapping[str, object]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "head_dim": shape.head_size,
        "max_position_embeddings": shape.positions,
        "vocab_size": vocabulary,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "use_cache": True,
    }


def _weights(shape: Shape, vocabulary: int, *, quiet: Sequence[int]) -> Weights:
    """Random matrices; the tokens in ``quiet`` are rarely chosen, so that an answer runs to its token limit."""
    import numpy as np  # type: ignore[import-not-found]

    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int, *, spread: float = 0.05) -> NDArray:
        return (random.standard_normal((rows, columns)) * spread).astype(np.float32)

    def ones(size: int) -> NDArray:
        return np.ones(size, np.float32)

    query, key = shape.heads * shape.head_size, shape.key_value_heads * shape.head_size
    output = matrix(vocabulary, shape.hidden, spread=0.3)
    output[list(quiet)] = 0.0
    weights = {
        "model.embed_tokens.weight": matrix(vocabulary, shape.hidden, spread=1.0),
        "model.norm.weight": ones(shape.hidden),
        "lm_head.weight": output,
    }
    for number in range(shape.layers):
        layer = {
            "self_attn.q_proj": matrix(query, shape.hidden),
            "self_attn.k_proj": matrix(key, shape.hidden),
            "self_attn.v_proj": matrix(key, shape.hidden),
            "self_attn.o_proj": matrix(shape.hidden, query),
            "self_attn.q_norm": ones(shape.head_size),
            "self_attn.k_norm": ones(shape.head_size),
            "mlp.gate_proj": matrix(shape.inner, shape.hidden),
            "mlp.up_proj": matrix(shape.inner, shape.hidden),
            "mlp.down_proj": matrix(shape.hidden, shape.inner),
            "input_layernorm": ones(shape.hidden),
            "post_attention_layernorm": ones(shape.hidden),
        }
        weights |= {f"model.layers.{number}.{name}.weight": value for name, value in layer.items()}
    return weights


def _write_safetensors(path: Path, weights: Weights) -> None:
    """The safetensors format: length of the header, header in JSON, then the tensors; here as bfloat16."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, value in weights.items():
        data = _bfloat16(value)
        header[name] = {
            "dtype": "BF16",
            "shape": list(value.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the tensors start at a multiple of eight
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(body))


def _bfloat16(value: NDArray) -> bytes:
    """numpy has no bfloat16; it is the upper half of a float32, rounded."""
    import numpy as np

    return bytes(((value.view(np.uint32) + 0x8000) >> 16).astype("<u2").tobytes())


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1))


if __name__ == "__main__":
    write(Path(sys.argv[1]), Shape())
