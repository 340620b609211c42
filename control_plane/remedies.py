"""What to do about a failure: a line to copy, a page to open. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict

from control_plane.configuration import Blank, remove, set_path, set_value
from control_plane.fit import EngineArguments, InvalidArguments
from control_plane.hardware import set_arguments, without
from control_plane.instance_types import known
from control_plane.model import Model
from control_plane.prices import InstanceType
from gpu_node.protocol import Failure

HUB = "https://huggingface.co"
CONTEXT = 8192  # tokens: what is proposed where the whole context of a model is too much


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


@dataclass(frozen=True)
class Stack:
    """What of its configuration a command needs besides the model."""

    place: int | None = None  # the model's in ``models``; None: not told yet, by a deployment that is older
    root_volume_gb: int = 100


def remedies(failure: Failure, model: Model, stack: Stack) -> Sequence[Remedy]:
    """All that is known to help; where nothing else is, the failure's own words."""
    if way := _KNOWN.get(failure.code):
        return way(model, stack)
    return [Remedy(failure.fix)] if failure.fix else []


def _gated(model: Model, _: Stack) -> Sequence[Remedy]:
    return [
        Remedy("Accept the model's terms on its page.", url=f"{HUB}/{model.repository}"),
        Remedy("Make a token that may read it.", url=f"{HUB}/settings/tokens"),
        Remedy("Set it, and deploy.", command=_deployed("pulumi config set --secret hfToken")),
    ]


def _not_found(model: Model, stack: Stack) -> Sequence[Remedy]:
    return [
        Remedy("See whether the repository and the revision are there.", url=f"{HUB}/{model.repository}/tree/main"),
        _setting(stack, "repository", Blank("owner/name"), "Correct it."),
    ]


def _too_large(model: Model, stack: Stack) -> Sequence[Remedy]:
    return [
        _flags(model, stack, "Ask for a shorter context, and fewer requests at a time.", _smaller(model)),
        _type(model, stack, "Take an instance type with more GPU memory.", lambda kind: kind.gpu.gib),
        _setting(stack, "repository", Blank("owner/name"), "Take a quantized repository."),
    ]


def _arguments(model: Model, stack: Stack) -> Sequence[Remedy]:
    if "vllmArgs" in model.override:
        return [Remedy("Correct them on the model's page, where they were changed.")]
    return [_setting(stack, "vllmArgs", Blank("arguments"), "Correct them.")]


def _quantization(model: Model, stack: Stack) -> Sequence[Remedy]:
    told = "Leave --quantization out for a repository that is not quantized that way."
    return [
        _command(model, stack, told, without(model.vllm_args, "--quantization", "-q")),
        _setting(
            stack,
            "instanceTypes[0]",
            Blank("type"),
            "FP8 wants a GPU of the L4's or the L40S's generation, or a newer one.",
        ),
    ]


def _disk(_: Model, stack: Stack) -> Sequence[Remedy]:
    larger = _deployed(set_value("rootVolumeGb", 2 * stack.root_volume_gb))
    return [Remedy(f"Give the nodes a larger volume than {stack.root_volume_gb} GB.", command=larger)]


def _driver(_: Model, stack: Stack) -> Sequence[Remedy]:
    return [
        _setting(stack, "instanceTypes[0]", Blank("type"), "Take a type with NVIDIA GPUs."),
        Remedy("Leave the image to us, or take one with the driver.", command=_deployed(remove("amiId"))),
    ]


def _crash_loop(model: Model, stack: Stack) -> Sequence[Remedy]:
    less = ("--gpu-memory-utilization", "0.85", "--max-num-seqs", "16", "--enforce-eager")
    return [_flags(model, stack, "Ask less of the GPU.", less), Remedy("Read the engine's last lines, below.")]


def _host_memory(model: Model, stack: Stack) -> Sequence[Remedy]:
    told = "Ask for fewer requests at a time, and nothing of the machine's memory."
    fewer = [*without(model.vllm_args, "--cpu-offload-gb", "--max-num-seqs"), "--max-num-seqs", "16"]
    return [
        _type(model, stack, "Take a type with more memory of its own.", lambda kind: kind.memory_gib),
        _command(model, stack, told, fewer),
    ]


def _slow(_: Model, stack: Stack) -> Sequence[Remedy]:
    return [
        _setting(stack, "instanceTypes[0]", Blank("type"), "Take a type with a faster network and disk."),
        Remedy("Read the engine's last lines, below: they say where it stood."),
    ]


# -- commands: each can be given as it stands, but for what only its reader knows ------------------------------------


def _setting(stack: Stack, key: str, value: object, told: str) -> Remedy:
    if stack.place is None:
        return Remedy(f"{told} (`{key}` of the model in the stack's configuration, then `pulumi up`.)")
    return Remedy(told, command=_deployed(set_path(f"models[{stack.place}].{key}", value)))


def _type(model: Model, stack: Stack, told: str, measure: Callable[[InstanceType], float]) -> Remedy:
    """The cheapest that has more of it, and no fewer GPUs; which one is not said for a type that we do not know."""
    mine = known().get(model.instance_types[0])
    better = [kind for kind in known().values() if mine and kind.gpus >= mine.gpus and measure(kind) > measure(mine)]
    name = min(better, key=lambda kind: kind.usd_per_hour).name if better else Blank("type")
    return _setting(stack, "instanceTypes[0]", name, told)


def _smaller(model: Model) -> Sequence[str]:
    try:
        length = EngineArguments.parse(model.vllm_args).max_model_len
    except InvalidArguments:
        length = None
    return ("--max-model-len", str(length // 2 if length and length <= CONTEXT else CONTEXT), "--max-num-seqs", "16")


def _flags(model: Model, stack: Stack, told: str, words: Sequence[str]) -> Remedy:
    """These arguments in the place of what is said of the same flags."""
    flags = [word for word in words if word.startswith("--")]
    return _command(model, stack, told, [*without(model.vllm_args, *flags), *words])


def _command(model: Model, stack: Stack, told: str, words: Sequence[str]) -> Remedy:
    if "vllmArgs" in model.override:  # which goes before what Pulumi says
        return Remedy(
            f"{told} Its arguments on the model's page, where they were changed: {shlex.join(words) or 'none'}."
        )
    if stack.place is None:
        return _setting(stack, "vllmArgs", shlex.join(words), told)
    return Remedy(told, command=_deployed(set_arguments(f"models[{stack.place}]", words)))


def _deployed(command: str) -> str:
    return f"{command} && pulumi up"


_KNOWN: Mapping[str, Callable[[Model, Stack], Sequence[Remedy]]] = {
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
