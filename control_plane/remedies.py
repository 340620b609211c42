"""What to do about a failure: a line to copy, a page to open. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict

from control_plane.model import Model
from gpu_node.protocol import Failure

HUB = "https://huggingface.co"


class FixEntry(TypedDict):
    """As the API tells a remedy."""

    text: str
    command: str | None
    url: str | None


@dataclass(frozen=True)
class Remedy:
    """One way out, in words, and as something that can be done at once."""

    text: str
    command: str | None = None  # for a shell in the repository's folder
    url: str | None = None

    def to_dict(self) -> FixEntry:
        return {"text": self.text, "command": self.command, "url": self.url}


def remedies(failure: Failure, model: Model) -> Sequence[Remedy]:
    """All that is known to help; where nothing else is, the failure's own words."""
    known = _KNOWN.get(failure.code)
    if known:
        return known(model)
    return [Remedy(failure.fix)] if failure.fix else []


def _gated(model: Model) -> Sequence[Remedy]:
    return [
        Remedy("Accept the model's terms on its page.", url=f"{HUB}/{model.repository}"),
        Remedy("Make a token that may read it.", url=f"{HUB}/settings/tokens"),
        Remedy("Set it, and deploy.", command="pulumi config set --secret hfToken && pulumi up"),
    ]


def _not_found(model: Model) -> Sequence[Remedy]:
    return [
        Remedy("See whether the repository and the revision are there.", url=f"{HUB}/{model.repository}/tree/main"),
        _setting("repository", "Correct it."),
    ]


def _too_large(_: Model) -> Sequence[Remedy]:
    return [
        _setting("vllmArgs", "Ask for a shorter --max-model-len, or fewer --max-num-seqs."),
        _setting("instanceTypes[0]", "Take an instance type with more GPU memory."),
        _setting("repository", "Take a quantized repository."),
    ]


def _arguments(_: Model) -> Sequence[Remedy]:
    return [_setting("vllmArgs", "Correct them.")]


def _quantization(_: Model) -> Sequence[Remedy]:
    return [
        _setting("vllmArgs", "Leave --quantization out for a repository that is not quantized that way."),
        _setting("instanceTypes[0]", "FP8 wants a GPU of the L4's or the L40S's generation, or a newer one."),
    ]


def _disk(_: Model) -> Sequence[Remedy]:
    return [Remedy("Give the nodes a larger volume.", command="pulumi config set rootVolumeGb <GB> && pulumi up")]


def _driver(_: Model) -> Sequence[Remedy]:
    return [
        _setting("instanceTypes[0]", "Take a type with NVIDIA GPUs."),
        Remedy("Leave the image to us, or take one with the driver.", command="pulumi config rm amiId && pulumi up"),
    ]


def _crash_loop(_: Model) -> Sequence[Remedy]:
    return [
        _setting("vllmArgs", "Ask less of the GPU: --gpu-memory-utilization 0.85, --max-num-seqs 16, --enforce-eager."),
        Remedy("Read the engine's last lines, below."),
    ]


def _host_memory(_: Model) -> Sequence[Remedy]:
    return [
        _setting("instanceTypes[0]", "Take a type with more memory of its own."),
        _setting("vllmArgs", "Ask for fewer --max-num-seqs, and no --cpu-offload-gb."),
    ]


def _slow(_: Model) -> Sequence[Remedy]:
    return [
        _setting("instanceTypes[0]", "Take a type with a faster network and disk."),
        Remedy("Read the engine's last lines, below: they say where it stood."),
    ]


def _setting(key: str, told: str) -> Remedy:
    return Remedy(told, command=f"pulumi config set --path 'diogenes:models[N].{key}' … && pulumi up")


_KNOWN: Mapping[str, Callable[[Model], Sequence[Remedy]]] = {
    "gated_model": _gated,
    "model_not_found_on_hub": _not_found,
    "out_of_gpu_memory": _too_large,
    "bad_engine_argument": _arguments,
    "unsupported_quantization": _quantization,
    "disk_full": _disk,
    "driver_missing": _driver,
    "engine_crash_loop": _crash_loop,
    "host_out_of_memory": _host_memory,
    "boot_too_slow": _slow,
}
