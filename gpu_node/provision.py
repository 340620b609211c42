"""``python -m gpu_node.provision serve …``: the engine's program on a node, run in the folder where the agent's package
lies. Brings the engine and the weights, at the same time, and then is the engine.

    engine     installed, or already in the machine's image, or a container's image     \\
    weights    hub -> disk, mirror -> disk, or nothing where they are streamed             >  exec vllm
    cache      what an engine like this one compiled before                             /

Whatever it prints is shown to whoever waits, and read by ``phases``.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from gpu_node.afterwards import Afterwards, ToMirror
from gpu_node.bucket import Bucket, BucketUnavailable
from gpu_node.compile_cache import CacheKey, CacheUnusable, CompileCache
from gpu_node.download import Download
from gpu_node.engine_settings import EngineKind, EngineSettings, InvalidEngineSettings
from gpu_node.hub import Hub, HubUnavailable
from gpu_node.installation import ContainerEngine, InstalledEngine
from gpu_node.mirror import Mirror
from gpu_node.weights import Manifest, Road, Source, WeightsFailure, pinned, road, streamed, value_of

_PRINT_S = 1.0
_FAILED = 3
_OWN = re.compile(r"^(AWS|DIOGENES)_")
_S3 = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 5},
    max_pool_connections=16,
)


class EngineNotInstalled(Exception):
    """Its own output says why."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Progress:
    """Tells how many bytes of the weights are there; nothing before ``show``, so that an engine that is being
    installed stays the phase that is shown."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._shown = False
        self._printed_at = float("-inf")
        self._last = ""

    def __call__(self, done: int, total: int) -> None:
        with self._lock:
            self._last = f"diogenes: weights {done}/{total} bytes"
            now = self._clock()
            if self._shown and (now - self._printed_at >= _PRINT_S or done == total):
                self._print(now)

    def show(self) -> None:
        """Begin the phase, where there is anything to fetch."""
        with self._lock:
            self._shown = True
            if self._last:
                self._print(self._clock())

    def _print(self, now: float) -> None:
        self._printed_at = now
        self._write(f"{self._last}\r")  # rewritten, as a bar is


@dataclass(frozen=True)
class Tools:
    """What a start works with; tests bring their own."""

    hub: Hub
    bucket: Bucket | None
    install: Callable[[], int]  # the engine; its exit status
    gpu: Callable[[], str]  # the name of the machine's GPU, empty where it is not known
    memory_bytes: int
    clock: Callable[[], float]
    pause: Callable[[float], None]
    write: Callable[[str], None]


@dataclass(frozen=True)
class Ready:
    """What the engine is to be started with."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # besides what it inherits
    afterwards: Afterwards = field(default_factory=Afterwards)


@dataclass(frozen=True)
class _Weights:
    arguments: Sequence[str]
    streams: bool = False
    to_mirror: ToMirror | None = None


class Provision:
    """Everything before the engine, for one start."""

    def __init__(
        self, settings: EngineSettings, arguments: Sequence[str], tools: Tools, *, home: Path, version: str
    ) -> None:
        """``arguments`` are vLLM's: ``serve REPOSITORY …``; ``version`` is the engine's, in the cache's key."""
        self._settings = settings
        self._arguments = list(arguments)
        self._tools = tools
        self._home = home
        self._version = version
        self._progress = Progress(tools.write, tools.clock)
        self._cache_root = home / ".cache" / "vllm"
        self._huggingface = home / ".cache" / "huggingface"

    def run(self) -> Ready:
        """Raises WeightsFailure and EngineNotInstalled, whichever is known first."""
        pool = ThreadPoolExecutor(3, thread_name_prefix="provision")
        try:
            installed = pool.submit(self._install)
            weights = pool.submit(self._weights)
            cache = pool.submit(self._restored_cache)
            needed: Sequence[Future[Any]] = (installed, weights)
            done, _ = wait(needed, return_when=FIRST_EXCEPTION)
            for each in done:
                each.result()
            told = weights.result()
            restored = cache.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # what still runs after a failure is not waited for
        return Ready(
            told.arguments,
            {
                "VLLM_CACHE_ROOT": str(self._cache_root),
                "HF_HOME": str(self._huggingface),
                **(self._region() if told.streams else {}),
            },
            Afterwards(restored, told.to_mirror),
        )

    def _region(self) -> Mapping[str, str]:
        """Not a secret, and the streamer asks for it; its credentials are the machine's."""
        return dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), self._settings.region)

    def _install(self) -> None:
        status = self._tools.install()
        if status:
            raise EngineNotInstalled(status)
        self._progress.show()

    # -- the weights ---------------------------------------------------------------------------------------------

    def _weights(self) -> _Weights:
        repository = self._arguments[1] if len(self._arguments) > 1 else ""
        if not repository or repository.startswith("-") or "://" in repository or Path(repository).is_dir():
            return _Weights(self._arguments)  # not the hub's
        revision = value_of(self._arguments, "--revision") or "main"
        mirror = self._mirror(repository)
        wanted, mirrored = self._known(repository, revision, mirror)
        if wanted is None:
            return _Weights(self._arguments)  # the engine tries by itself, and says what it finds
        match road(self._settings.weights, mirrored=mirrored, arguments=self._arguments):
            case Road.STREAM if mirror:
                return self._streamed(mirror, wanted)
            case Road.COPY if mirror and self._copied(mirror, wanted):
                return _Weights(pinned(self._arguments, wanted.commit))
        self._download(wanted, partial(self._tools.hub.opened, wanted))
        to_mirror = ToMirror(mirror, wanted, self._folder(wanted), revision) if mirror and not mirrored else None
        return _Weights(pinned(self._arguments, wanted.commit), to_mirror=to_mirror)

    def _mirror(self, repository: str) -> Mirror | None:
        bucket = self._tools.bucket
        if bucket is None or self._settings.weights is not Source.S3:
            return None
        return Mirror(bucket, repository, owner=self._settings.node, clock=self._tools.clock)

    def _known(self, repository: str, revision: str, mirror: Mirror | None) -> tuple[Manifest | None, Manifest | None]:
        """What is wanted, and what of it is mirrored. While the hub is away, what was mirrored last is wanted."""
        wanted: Manifest | None = None
        try:
            wanted = self._tools.hub.manifest(repository, revision)
        except HubUnavailable as error:
            self._say(str(error))
        if mirror is None:
            return wanted, None
        try:
            commit = wanted.commit if wanted else mirror.commit_of(revision)
            mirrored = mirror.find(commit) if commit else None
        except BucketUnavailable as error:
            self._say(f"the mirror cannot be read: {error}")
            return wanted, None
        return wanted or mirrored, mirrored

    def _streamed(self, mirror: Mirror, wanted: Manifest) -> _Weights:
        self._say(f"weights to stream: {wanted.total_bytes / 1024**3:.2f} GiB")
        address = mirror.address(wanted.commit)
        arguments = streamed(self._arguments, address, memory_bytes=self._tools.memory_bytes)
        return _Weights(arguments, streams=True)

    def _copied(self, mirror: Mirror, wanted: Manifest) -> bool:
        """False where the mirror does not give what was mirrored: the hub has it, too."""
        try:
            self._download(wanted, partial(mirror.opened, wanted))
        except WeightsFailure as failure:
            if failure.code == "disk_full":
                raise
            self._say(f"the mirror cannot be used: {failure}")
            return False
        return True

    def _download(self, wanted: Manifest, opened: Callable[..., object]) -> None:
        download = Download(
            opened,  # type: ignore[arg-type]  # partial hides the rest of its signature
            self._folder(wanted),
            pause=self._tools.pause,
            progress=self._progress,
        )
        download.fetch(wanted.files)

    def _folder(self, manifest: Manifest) -> Path:
        """Where the hub's own library looks first: the engine finds there what it knows by the repository's name."""
        name = f"models--{manifest.repository.replace('/', '--')}"
        return self._huggingface / "hub" / name / "snapshots" / manifest.commit

    # -- the compile cache -----------------------------------------------------------------------------------------

    def _restored_cache(self) -> CompileCache | None:
        """None where there is nothing to keep it in, or nothing to know it by."""
        gpu = self._tools.gpu() if self._tools.bucket and len(self._arguments) > 1 else ""
        if not gpu or self._tools.bucket is None:
            return None
        key = CacheKey(self._arguments[1], gpu, self._version, tuple(self._arguments))
        cache = CompileCache(self._tools.bucket, key, self._cache_root)
        try:
            size = cache.restore()
        except CacheUnusable as error:
            self._say(str(error))
        else:
            if size:
                self._say(f"the compile cache is restored: {size / 1e6:.1f} MB")
        return cache

    def _say(self, text: str) -> None:
        self._tools.write(f"diogenes: {text}\n")


# -- composition ---------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """The exit status of a start that failed; does not return where all goes well: the process is the engine then."""
    try:
        settings = EngineSettings.from_env(os.environ, node=os.uname().nodename)
    except InvalidEngineSettings as error:
        _write(f"diogenes: {error}\n")
        return _FAILED
    home = Path(os.environ["HOME"])
    engine = _engine(settings, home, package=Path.cwd())
    try:
        ready = Provision(settings, arguments, _tools(settings, engine), home=home, version=engine.version).run()
    except WeightsFailure as failure:
        engine.give_up()
        _write(f"diogenes: {failure.code}: {failure}\n")
        return _FAILED
    except EngineNotInstalled as failure:
        _write("diogenes: the engine could not be installed\n")
        return failure.status
    inherited = {name: value for name, value in os.environ.items() if not _OWN.match(name)}
    environment = {**inherited, **ready.environment}
    _leave_behind(ready.afterwards, arguments)
    program = engine.program(ready.arguments, environment)
    os.execvpe(program[0], list(program), environment)  # noqa: S606 - never through a shell


def _engine(settings: EngineSettings, home: Path, *, package: Path) -> InstalledEngine | ContainerEngine:
    if settings.kind is EngineKind.CONTAINER:
        return ContainerEngine(settings.image, home, write=_write)
    return InstalledEngine(home, package, write=_write)


def _tools(settings: EngineSettings, engine: InstalledEngine | ContainerEngine) -> Tools:
    bucket = None
    if settings.bucket:
        bucket = Bucket(boto3.client("s3", region_name=settings.region or None, config=_S3), settings.bucket)
    return Tools(
        hub=Hub.from_env(os.environ),
        bucket=bucket,
        install=engine.install,
        gpu=_gpu,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        clock=time.time,
        pause=time.sleep,
        write=_write,
    )


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _gpu() -> str:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.splitlines()[0].strip() if told.strip() else ""


def _leave_behind(afterwards: Afterwards, arguments: Sequence[str]) -> None:
    """A process beside the engine, in its group, so that who ends the engine ends both."""
    if not afterwards:
        return
    engine = os.getpid()
    if child := os.fork():
        os.waitpid(child, 0)
        return
    # Twice, so that it is nobody's child: the engine does not look after children that it does not know.
    if os.fork():
        os._exit(0)
    try:
        os.nice(10)
        host, port = value_of(arguments, "--host") or "127.0.0.1", value_of(arguments, "--port") or "8000"
        afterwards.run(
            healthy=partial(_answers, host, port),
            alive=partial(_exists, engine),
            pause=time.sleep,
            say=lambda text: _write(f"diogenes: {text}\n"),
        )
    finally:
        os._exit(0)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def _answers(host: str, port: str) -> bool:
    connection = http.client.HTTPConnection(host, int(port), timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # at once: a download that still runs is not waited for
