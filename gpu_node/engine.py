"""The engine on this node: its command line and environment (pure), its process, its answers.

The engine is vLLM, or any program that takes vLLM's command line and speaks its HTTP.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO, Any, NamedTuple

from gpu_node.protocol import ENGINE_PORT, LOG_TAIL_LINES
from gpu_node.redaction import scrub

SHUTDOWN_TIMEOUT_S = 30
"""What vLLM gives its streams to end, once it is told to stop."""

_PROBE_TIMEOUT_S = 2.0
_LAST_WORDS_S = 2.0  # how long the output of a dead engine is waited for
_MAX_BODY_BYTES = 4 * 1024 * 1024  # vLLM's metrics are some 100 KB

# -- what is started -----------------------------------------------------------------------------------------------


class InvalidSpec(ValueError):
    """The model's configuration cannot be made into a command line."""


@dataclass(frozen=True)
class EngineSpec:
    """What the engine shall serve."""

    name: str  # as clients call the model
    repository: str
    revision: str | None = None
    args: Sequence[str] = ()

    @classmethod
    def from_row(cls, config: Mapping[str, Any], override: Mapping[str, Any]) -> EngineSpec:
        """From a row of the ``models`` table; the override wins. Raises InvalidSpec."""
        merged = {**config, **override}
        name, revision = merged.get("name"), merged.get("revision") or None
        repository, text = merged.get("repository") or name, merged.get("vllmArgs") or ""
        if not isinstance(name, str) or not isinstance(repository, str) or not isinstance(text, str):
            raise InvalidSpec("name, repository and vllmArgs must be text")
        if revision is not None and not isinstance(revision, str):
            raise InvalidSpec("revision must be text")
        try:
            return cls(name=name, repository=repository, revision=revision, args=tuple(shlex.split(text)))
        except ValueError as error:
            raise InvalidSpec(f"vllmArgs cannot be split into words: {error}") from error


def command(spec: EngineSpec, program: str, host: str, *, port: int = ENGINE_PORT) -> list[str]:
    """The engine's command line. The model's own arguments come last, so that they win where vLLM lets the last win."""
    revision = ["--revision", spec.revision] if spec.revision else []
    return [
        *shlex.split(program),
        "serve",
        spec.repository,
        "--served-model-name",
        spec.name,
        "--host",
        host,
        "--port",
        str(port),
        "--enable-prompt-tokens-details",  # else usage does not tell cached tokens
        "--shutdown-timeout",  # else a SIGTERM cuts every stream
        str(SHUTDOWN_TIMEOUT_S),
        *revision,
        *spec.args,
    ]


_FOREIGN = re.compile(r"^(AWS|DIOGENES)_|(_TOKEN|_SECRET|_PASSWORD|_KEY|_CREDENTIALS)$")


def environment(inherited: Mapping[str, str], *, ready_timeout_s: float) -> dict[str, str]:
    """The engine's environment: without credentials, except the Hugging Face token, which only the engine needs.

    A model's own code runs in the engine; what it cannot see, it cannot send anywhere.
    """
    kept = {name: value for name, value in inherited.items() if name == "HF_TOKEN" or not _FOREIGN.search(name)}
    return kept | {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(int(ready_timeout_s)),
        "PYTHONUNBUFFERED": "1",  # its lines are our only view of its progress
    }


# -- what it prints ------------------------------------------------------------------------------------------------

_READ_BYTES = 65536
_LINE_END = re.compile(rb"\r?\n|\r(?=[^\n])")


class Line(NamedTuple):
    """One line of output, or one state of a progress bar, which rewrites its line by carriage returns."""

    at: float
    text: str
    lasting: bool  # False for a state of a bar that was written over


class Output:
    """Takes the engine's output on a thread of its own, so that its pipe is never full."""

    def __init__(self, stream: IO[bytes], *, clock: Callable[[], float], secrets: Sequence[str] = ()) -> None:
        """``secrets`` are values that no line may show."""
        self._stream = stream
        self._clock = clock
        self._secrets = secrets
        self._fresh: deque[Line] = deque(maxlen=10 * LOG_TAIL_LINES)
        self._tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        self._thread = threading.Thread(target=self._read, name="engine-output", daemon=True)
        self._thread.start()

    @property
    def tail(self) -> Sequence[str]:
        """The last lines taken."""
        return tuple(self._tail)

    def take(self) -> Sequence[Line]:
        """What came since the last call."""
        taken = []
        while self._fresh:
            taken.append(self._fresh.popleft())
        self._tail.extend(line.text for line in taken if line.lasting)
        return taken

    def finish(self, timeout_s: float) -> None:
        """Wait for the end of the output: the lines that explain a death come last."""
        self._thread.join(timeout_s)

    def _read(self) -> None:
        rest = b""
        with self._stream as stream:
            while chunk := os.read(stream.fileno(), _READ_BYTES):
                rest = self._split(rest + chunk)
        self._keep(rest, lasting=True)

    def _split(self, data: bytes) -> bytes:
        start = 0
        for end in _LINE_END.finditer(data):
            self._keep(data[start : end.start()], lasting=b"\n" in end[0])
            start = end.end()
        return data[start:][-_READ_BYTES:]

    def _keep(self, data: bytes, *, lasting: bool) -> None:
        text = data.decode(errors="replace").strip("\r\n")
        if text.strip():
            self._fresh.append(Line(self._clock(), scrub(text, self._secrets), lasting))


# -- the process ---------------------------------------------------------------------------------------------------


_OOM_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def killed_for_memory(counters: Path = Path("/proc/vmstat")) -> int:
    """How many processes the kernel has killed for want of memory since the machine booted; 0 where it does not tell.

    Of the whole machine, containers included: each has limits of its own, but no other counter than this sees them all.
    """
    try:
        found = _OOM_KILLS.search(counters.read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Load:
    """The engine's requests, by its own metrics."""

    running: int
    waiting: int
    tokens: Mapping[str, float] = field(default_factory=dict, compare=False)  # so far, by counter; empty: not told


class Proof(Enum):
    """What a request of one token shows of an engine."""

    WORKS = "it made one"
    FAILS = "it tried and could not"
    NONE = "it did not say in time, or did not even try: its queue is full, say"


class Probe:
    """One question to an engine, asked on a thread of its own: heartbeats must not wait for an answer."""

    def __init__(self, ask: Callable[[], Proof]) -> None:
        self._ask = ask
        self._answer: Proof | None = None
        threading.Thread(target=self._run, name="engine-probe", daemon=True).start()

    def answer(self) -> Proof | None:
        """None while it is open."""
        return self._answer

    def _run(self) -> None:
        self._answer = self._ask()


class Engine:
    """One engine process and all that it starts, in a process group of its own."""

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float],
        host: str,
        killed_for_memory: Callable[[], int] = killed_for_memory,
        end_elsewhere: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts it. Raises FileNotFoundError where there is no such program.

        ``end_elsewhere`` ends what of it is no process below this one, such as a container.
        """
        if shutil.which(argv[0], path=environ.get("PATH")) is None:
            raise FileNotFoundError(argv[0])
        self._host = host
        self._killed_for_memory = killed_for_memory
        self._killed_before = killed_for_memory()
        self._end_elsewhere = end_elsewhere
        self._process = subprocess.Popen(  # noqa: S603 - an operator's command, never through a shell
            [*_tied_to_parent(), *argv],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        token = environ.get("HF_TOKEN", "")
        self.output = Output(self._process.stdout, clock=clock, secrets=[token] if token else [])

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal. Once it is known, the output is complete."""
        code = self._process.poll()
        if code is not None:
            self.output.finish(_LAST_WORDS_S)
        return code

    @property
    def starved(self) -> bool:
        """Has the kernel killed anything for want of memory since it was started? On a node that is the engine."""
        return self._killed_for_memory() > self._killed_before

    def stop(self, grace_s: float) -> None:
        """Ask it to end, and make it end after ``grace_s``; nothing of it is left when this returns.

        It takes no new request from here on, though its health check still says that it is well: whoever sends it
        requests must know before.
        """
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        # Also after a clean end: a worker that outlives its parent would keep the GPU's memory.
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._end_elsewhere()
        self.output.finish(_LAST_WORDS_S)

    def healthy(self) -> bool:
        """Is it ready for requests? Its port is closed until then."""
        return self._get("/health") is not None

    def load(self) -> Load | None:
        """None when it does not answer."""
        metrics = self._get("/metrics")
        return None if metrics is None else parse_load(metrics)

    def probe(self, limit_s: float) -> Probe:
        """Begin to ask it for one token: the only question that goes through the engine itself."""
        return Probe(lambda: self._makes_a_token(limit_s))

    def _makes_a_token(self, limit_s: float) -> Proof:
        status = self._post("/v1/completions", {"prompt": "1", "max_tokens": 1, "temperature": 0}, limit_s)
        if status == http.client.NOT_FOUND:  # it embeds, and generates nothing
            status = self._post("/v1/embeddings", {"input": "1"}, limit_s)
        if status == http.client.OK:
            return Proof.WORKS
        failed = status >= http.client.INTERNAL_SERVER_ERROR and status != http.client.SERVICE_UNAVAILABLE
        return Proof.FAILS if failed else Proof.NONE

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # all gone already
            os.killpg(self._process.pid, number)

    def _get(self, path: str) -> str | None:
        status, body = self._ask("GET", path)
        return body if status == http.client.OK else None

    def _post(self, path: str, body: Mapping[str, Any], limit_s: float) -> int:
        return self._ask("POST", path, json.dumps(body), limit_s=limit_s)[0]

    def _ask(self, method: str, path: str, body: str | None = None, *, limit_s: float = _PROBE_TIMEOUT_S) -> _Answer:
        connection = http.client.HTTPConnection(self._host, ENGINE_PORT, timeout=limit_s)
        try:
            connection.request(method, path, body, {"content-type": "application/json"} if body else {})
            response = connection.getresponse()
            return _Answer(response.status, response.read(_MAX_BODY_BYTES).decode(errors="replace"))
        except (OSError, http.client.HTTPException):
            return _Answer(0, "")
        finally:
            connection.close()


class _Answer(NamedTuple):
    status: int  # 0: none came
    body: str


_GAUGE = re.compile(r"^vllm:num_requests_(?P<what>running|waiting)(\{[^}]*\})? (?P<value>\S+)", re.MULTILINE)
_COUNTER = re.compile(r"^vllm:(?P<what>(?:prompt|generation)_tokens_total(\{[^}]*\})?) (?P<value>\S+)", re.MULTILINE)


def parse_load(metrics: str) -> Load | None:
    """Running and waiting requests in the text of ``/metrics``, all engines together; None where they are missing."""
    sums: dict[str, int] = {}
    for gauge in _GAUGE.finditer(metrics):
        sums[gauge["what"]] = sums.get(gauge["what"], 0) + int(float(gauge["value"]))
    if sums.keys() != {"running", "waiting"}:
        return None
    tokens = {counter["what"]: float(counter["value"]) for counter in _COUNTER.finditer(metrics)}
    return Load(sums["running"], sums["waiting"], tokens)


def _tied_to_parent() -> Sequence[str]:
    """A prefix by which the kernel ends the engine when the agent dies without stopping it.

    Without util-linux's setpriv the node's service manager must do that: it ends all processes of a unit together.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def gpu_answers() -> bool:
    """Does the NVIDIA driver see a GPU?"""
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        listing = subprocess.run([program, "-L"], capture_output=True, timeout=60, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return listing.returncode == 0 and b"GPU " in listing.stdout
