"""What stands between the load and the engine: how each contender is started, and on which terms.

A contender is described by a ``Recipe``; the recipes of nginx and of LiteLLM are here, that of Diogenes in
``diogenes``. ``direct`` is no recipe: it is the engine itself.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gpu_node.protocol import ENGINE_PORT
from tests.bench.build import CACHE, Programs
from tests.bench.client import Address, NotUp, Target, wait_until_up
from tests.bench.processes import LOAD_CPU, PROXY_CPU, Process, start

ENGINE = Address("127.0.9.1", ENGINE_PORT)
"""A loopback address of its own, because the control plane takes every engine to listen on this very port."""

MODEL = "bench"
LITELLM_VENV = CACHE.with_name("bench-litellm")

_PORTS = {"nginx": 18081, "diogenes": 18082, "litellm": 18083}
_LITELLM_KEY = "sk-bench"

_NGINX = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 8000; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    keepalive_requests 1000000;
    upstream engine {{
        server {engine};
        keepalive 512;
        keepalive_requests 1000000;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""

_LITELLM = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: http://{engine}/v1
      api_key: none
general_settings:
  master_key: {key}
litellm_settings:
  telemetry: false
"""


class Absent(RuntimeError):
    """This contender cannot take part; the message says why."""


@dataclass(frozen=True)
class Recipe:
    name: str
    command: Sequence[str]
    target: Target
    environment: Mapping[str, str] = field(default_factory=dict)
    patience_s: float = 20.0
    held_streams: int = 1000
    prepare: Callable[[], None] = lambda: None  # what the last start may have left behind


@dataclass(frozen=True)
class Contender:
    """A recipe that runs. ``start_cpu_s`` is the CPU time from exec to its first answer; None for ``direct``."""

    name: str
    target: Target
    process: Process
    held_streams: int = 1000
    start_cpu_s: float | None = None


def address_of(name: str) -> Address:
    return Address("127.0.0.1", _PORTS[name])


@contextmanager
def running_engine(programs: Programs) -> Iterator[Contender]:
    """The engine, which is also the contender ``direct``."""
    command = [str(programs.engine), ENGINE.host, str(ENGINE.port)]
    process = start(command, cpu=LOAD_CPU, log=CACHE / "log" / "engine.log")
    target = Target(address=ENGINE, key="none", model=MODEL)
    try:
        wait_until_up(target, patience_s=5)
        yield Contender(name="direct", target=target, process=process)
    finally:
        process.stop()


@contextmanager
def running(recipe: Recipe) -> Iterator[Contender]:
    """Starts it afresh and stops it. Raises Absent when it does not come up."""
    recipe.prepare()
    log = CACHE / "log" / f"{recipe.name}.log"
    process = start(recipe.command, cpu=PROXY_CPU, log=log, environment=recipe.environment)
    try:
        try:
            wait_until_up(recipe.target, patience_s=recipe.patience_s)
        except NotUp as error:
            raise Absent(f"{error}; the end of its log:\n{_tail(log)}") from error
        cpu_s = process.cpu_since_start_s()
        yield Contender(recipe.name, recipe.target, process, held_streams=recipe.held_streams, start_cpu_s=cpu_s)
    finally:
        process.stop()


def nginx() -> Recipe:
    """Raises Absent."""
    program = shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/bin")
    if program is None:
        raise Absent("nginx is not installed (Debian: apt-get install nginx-light)")
    home = CACHE / "nginx"
    home.mkdir(parents=True, exist_ok=True)
    address = address_of("nginx")
    conf = home / "nginx.conf"
    conf.write_text(_NGINX.format(home=home, engine=ENGINE, address=address), encoding="utf-8")
    command = [program, "-e", str(home / "error.log"), "-p", str(home), "-c", str(conf)]
    return Recipe("nginx", command, Target(address, key="none", model=MODEL))


def install_litellm() -> None:
    """Its proxy, in a virtual environment of its own. Raises Absent."""
    steps = (
        [sys.executable, "-m", "venv", str(LITELLM_VENV)],
        [str(LITELLM_VENV / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Absent(f"LiteLLM cannot be installed: {done.stderr.strip()[-300:]}")


def litellm() -> Recipe:
    """Raises Absent."""
    program = LITELLM_VENV / "bin" / "litellm"
    if not program.exists():
        raise Absent("LiteLLM is not installed (--with-litellm, or make bench LITELLM=1)")
    config = CACHE / "litellm.yaml"
    config.write_text(_LITELLM.format(model=MODEL, engine=ENGINE, key=_LITELLM_KEY), encoding="utf-8")
    address = address_of("litellm")
    command = [str(program), "--config", str(config), "--host", address.host, "--port", str(address.port)]
    return Recipe(
        "litellm",
        command,
        Target(address, key=_LITELLM_KEY, model=MODEL),
        # Its own price list instead of one from the internet.
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "NO_PROXY": "127.0.0.0/8"},
        patience_s=120.0,
        held_streams=150,
    )


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
