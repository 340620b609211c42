"""The numbers of a model that tests size machines by."""

from __future__ import annotations

from collections.abc import Mapping

LLAMA_8B: Mapping[str, int] = {
    "parameters": 8030261248,
    "embeddingParameters": 1050673152,
    "layers": 32,
    "kvHeads": 8,
    "headDim": 128,
    "hiddenSize": 4096,
    "intermediateSize": 14336,
    "vocabSize": 128256,
}
"""Llama 3.1 8B, as a configuration gives it by hand."""

LLAMA_8B_LONG: Mapping[str, int] = {**LLAMA_8B, "maxModelLen": 131072}
"""With its whole context."""
