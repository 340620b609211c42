"""How far the engine has come, and why it died, read from its own log lines. Pure.

vLLM writes no progress anywhere else: its port is closed until it is ready. The texts are those of vLLM 0.32 and of
the libraries under it; a text that changes costs a phase on the progress bar or the name of a failure, never a start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gpu_node import crash
from gpu_node.protocol import Failure, Phase, PhaseRecord

_ORDER = list(Phase)

# The first line with one of these texts begins the phase.
_BEGINNINGS: Sequence[tuple[Phase, Sequence[str]]] = (
    # Begun before by provision, which tells its bytes; by then the engine may still fetch what was left out.
    (Phase.WEIGHTS, ("Starting to load model",)),
    (
        Phase.LOAD,
        (
            "Time spent downloading weights",
            "checkpoint shards",
            "Runai Model Streamer",
            "Loading weights took",
            "Checkpoint size:",
        ),
    ),
    (
        Phase.COMPILE,
        ("vLLM's torch.compile", "Dynamo bytecode transform", "torch.compile took", "Capturing CUDA graph"),
    ),
    # Not "Available KV cache memory" or "KV cache size": CUDA graphs are captured after them.
    (Phase.WARMUP, ("Graph capturing finished", "init engine (", "Starting vLLM server on")),
)

_CHECKPOINT_SIZE = re.compile(r"(?:Checkpoint size|diogenes: weights to stream): (?P<gib>[\d.]+) GiB")
_SHARDS = re.compile(r"(?:checkpoint shards|Runai Model Streamer).*?(?P<percent>\d+)% Completed")
# Ours: what the programs around vLLM say of a phase that they know more about.
_TOLD = re.compile(r"^diogenes: (?P<phase>[a-z-]+) (?P<done>\d+)/(?P<total>\d+) bytes$")
_DOWNLOAD = re.compile(
    r"(?P<what>[^|]*?):\s*\d+%\|[^|]*\|\s*"
    r"(?P<done>[\d.]+)(?P<done_unit>[kMGT]?)B?/(?P<total>[\d.]+)(?P<total_unit>[kMGT])B?\s*\["
)
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_GIB = 1024**3


class PhaseTracker:
    """The phases of one start, each with when it began and, where the log tells, its bytes. Never goes backwards."""

    def __init__(self, started_at: float) -> None:
        self._records = [PhaseRecord(Phase.INSTANCE, started_at)]
        self._checkpoint_bytes: int | None = None
        self._downloads: dict[str, tuple[int, int]] = {}

    @property
    def records(self) -> Sequence[PhaseRecord]:
        """The phases entered so far, oldest first."""
        return tuple(self._records)

    @property
    def current(self) -> Phase:
        return self._records[-1].phase

    def enter(self, phase: Phase, now: float) -> bool:
        """Begin ``phase``; says whether that is news. A phase that was passed already is not entered again."""
        if _ORDER.index(phase) <= _ORDER.index(self.current):
            return False
        self._records.append(PhaseRecord(phase, now))
        return True

    def read(self, line: str, now: float) -> bool:
        """Take in one log line; says whether a new phase began with it."""
        entered = False
        for phase, texts in _BEGINNINGS:
            if any(text in line for text in texts):
                entered = self.enter(phase, now)
        self._read_download(line)
        self._read_shards(line)
        return self._read_told(line, now) or entered

    def _read_told(self, line: str, now: float) -> bool:
        told = _TOLD.match(line)
        if told is None or told["phase"] not in _ORDER:
            return False
        entered = self.enter(Phase(told["phase"]), now)
        if self.current == told["phase"]:
            self._progress(done=int(told["done"]), total=int(told["total"]))
        return entered

    def _read_download(self, line: str) -> None:
        bar = _DOWNLOAD.search(line)
        if bar is None or self.current is not Phase.WEIGHTS:
            return
        done, total = _bytes(bar["done"], bar["done_unit"]), _bytes(bar["total"], bar["total_unit"])
        self._downloads[bar["what"].strip()] = (done, total)  # one bar a file
        sums = [sum(column) for column in zip(*self._downloads.values(), strict=True)]
        self._progress(done=sums[0], total=sums[1])

    def _read_shards(self, line: str) -> None:
        if size := _CHECKPOINT_SIZE.search(line):
            self._checkpoint_bytes = int(float(size["gib"]) * _GIB)
        shards = _SHARDS.search(line)
        if shards and self._checkpoint_bytes and self.current is Phase.LOAD:
            self._progress(done=self._checkpoint_bytes * int(shards["percent"]) // 100, total=self._checkpoint_bytes)

    def _progress(self, *, done: int, total: int) -> None:
        self._records[-1] = replace(self._records[-1], done_bytes=done, total_bytes=total)


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit])


# -- why it died ---------------------------------------------------------------------------------------------------

DRIVER_MISSING = Failure(
    "driver_missing",
    "The machine has no working NVIDIA driver.",
    "Use a GPU instance type, and a machine image with the NVIDIA driver.",
    permanent=True,
)

NOT_CONFIGURED = Failure(
    "model_not_configured",
    "The model is not in the table of models (any more).",
    "Add it to `diogenes:models` and run `pulumi up`.",
    permanent=True,
)

ENGINE_MISSING = Failure(
    "engine_missing",
    "The engine's program is not on the machine.",
    "Use a machine image that holds it, or correct the engine's command.",
    permanent=True,
)

ENGINE_NOT_INSTALLED = Failure(
    "engine_not_installed",
    "The engine could not be put on the machine.",
    "It is tried again; see its last lines if that does not help.",
)

HUB_UNREACHABLE = Failure(
    "hub_unreachable",
    "The machine could not reach the Hugging Face hub.",
    "It is tried again; look at the hub's status page, or take the weights from S3.",
)

_EXPLANATIONS: Sequence[tuple[Failure, re.Pattern[str]]] = (
    (
        Failure(
            "gated_model",
            "The model is gated, and Hugging Face did not accept the token.",
            "Accept the model's terms on its page, and set a Hugging Face token that may read it.",
            permanent=True,
        ),
        re.compile(
            r"diogenes: gated_model|GatedRepoError"
            r"|[Cc]annot access gated repo|access a gated repo|401 Client Error|403 Client Error"
        ),
    ),
    (
        Failure(
            "model_not_found_on_hub",
            "There is no such model repository or revision.",
            "Correct the model's repository or revision.",
            permanent=True,
        ),
        re.compile(
            r"diogenes: model_not_found_on_hub|is not a valid model identifier|is not a valid git identifier"
            r"|RepositoryNotFoundError|RevisionNotFoundError|(?<!Local)EntryNotFoundError"
        ),
    ),
    (
        Failure(
            "disk_full",
            "The machine's disk is too small for the model.",
            "Give the nodes a larger volume.",
            permanent=True,
        ),
        re.compile(r"diogenes: disk_full|No space left on device|Disk quota exceeded"),
    ),
    (
        Failure(
            "weights_corrupt",
            "The model's files came with another content than the hub announces.",
            "It is tried again; see its last lines if that does not help.",
        ),
        re.compile(r"diogenes: weights_corrupt"),
    ),
    (
        Failure(
            "weights_unavailable",
            "The model's files did not come.",
            "It is tried again; see https://status.huggingface.co if that does not help.",
        ),
        re.compile(r"diogenes: weights_unavailable"),
    ),
    (
        HUB_UNREACHABLE,
        re.compile(
            r"We couldn't connect to '?https://huggingface|LocalEntryNotFoundError|OfflineModeIsEnabled"
            r"|Max retries exceeded with url|Temporary failure in name resolution|50[234] Server Error"
        ),
    ),
    (ENGINE_NOT_INSTALLED, re.compile(r"^diogenes: the engine could not be installed", re.MULTILINE)),
    (
        DRIVER_MISSING,
        re.compile(
            r"Found no NVIDIA driver|NVIDIA driver on your system is too old|Failed to infer device type"
            r"|CUDA driver initialization failed|couldn't communicate with the NVIDIA driver"
        ),
    ),
    (
        Failure(
            "unsupported_quantization",
            "The model and the configured quantization do not go together on this GPU.",
            "Leave --quantization out for a model that is not quantized that way, or use another repository.",
            permanent=True,
        ),
        re.compile(
            r"Cannot find the config file for|Unknown quantization method|method specified in the model config"
            r"|not supported for the current GPU|is not supported for quantization"
            r"|quantization is currently not supported"
        ),
    ),
    (
        Failure(
            "out_of_gpu_memory",
            "The model does not fit into the memory of the GPUs.",
            "Use a larger instance type, a quantized repository, or a smaller --max-model-len.",
            permanent=True,
        ),
        re.compile(
            r"CUDA out of memory|OutOfMemoryError|No available memory for the cache blocks"
            r"|larger than the available KV cache|less than desired GPU memory utilization|CUDA error: out of memory"
        ),
    ),
    (
        Failure(
            "bad_engine_argument",
            "The engine does not accept its arguments.",
            "Correct the model's vllmArgs.",
            permanent=True,
        ),
        re.compile(
            r"error: unrecognized arguments|error: argument |error: ambiguous option|validation errors? for \w+"
            r"|is larger than the maximum number of tokens|must be divisible by tensor parallel size"
            r"|greater than the derived max_model_len"
        ),
    ),
)


def explain(exit_code: int, lines: Sequence[str], *, starved: bool = False) -> Failure:
    """Why an engine that was not ready yet exited; the arguments are those of ``crash.explain``.

    The first cause in the table that a line names: later lines repeat it in more general words. ``engine_crashed``
    where none is named; trying that again may help. What the kernel killed is not asked: a line of an attempt that was
    made up for may still stand there.
    """
    for failure, pattern in () if starved else _EXPLANATIONS:
        if line := next((line for line in lines if pattern.search(line)), None):
            return replace(failure, cause=line.strip())
    return crash.crashed(exit_code, starved=starved)


# -- why it takes too long -----------------------------------------------------------------------------------------

_SLOW_FIX: Mapping[Phase, str] = {
    Phase.ENGINE_INSTALL: "Try again, or use an image that holds the engine.",
    Phase.WEIGHTS: "Take the weights from S3, or an instance type with a faster network.",
    Phase.LOAD: "Use an instance type with a faster disk, or a smaller or quantized repository.",
    Phase.COMPILE: "Add --enforce-eager to vllmArgs, or keep the compile cache.",
}
_SLOW_OTHERWISE = "See the engine's last lines; a large model may need a higher limit."


def overdue(
    records: Sequence[PhaseRecord], now: float, *, limits: Mapping[Phase, float], whole_s: float
) -> Failure | None:
    """Why a start is given up: its phase is longer than it may be, or the whole is. None while it may go on."""
    current, begun = records[-1], records[0].started_at
    in_phase_s, limit_s = now - current.started_at, limits.get(current.phase)
    if limit_s is not None and in_phase_s >= limit_s:
        return _too_slow(current, f"The phase {current.phase} took longer than the {limit_s:.0f} s that it may take.")
    if now - begun >= whole_s:
        told = f"The start took longer than the {whole_s:.0f} s that it may take, in the end in phase {current.phase}."
        return _too_slow(current, told)
    return None


def _too_slow(record: PhaseRecord, message: str) -> Failure:
    cause = ""
    if record.total_bytes:
        cause = f"{(record.done_bytes or 0) / 1e9:.1f} of {record.total_bytes / 1e9:.1f} GB were done"
    return Failure("boot_too_slow", message, _SLOW_FIX.get(record.phase, _SLOW_OTHERWISE), cause=cause)


def bad_configuration(reason: str) -> Failure:
    """The model's own settings cannot be made into a command line."""
    return Failure("bad_engine_argument", f"The model's settings cannot be used: {reason}.", permanent=True)
