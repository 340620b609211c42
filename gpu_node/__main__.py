"""``python -m gpu_node``: composes the agent. Its end is the end of the machine; the service manager sees to that."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping

import boto3
from botocore.config import Config

from gpu_node import engine, imds, installation
from gpu_node.agent import Agent
from gpu_node.clock import SteadyClock
from gpu_node.engine_settings import PREFIX as ENGINE_PREFIX
from gpu_node.engine_settings import EngineKind
from gpu_node.settings import InvalidSettings, NodeSettings
from gpu_node.table import Names, Table
from gpu_node.watchdog import Watchdog

log = logging.getLogger("diogenes.node")

# One call must never take so long that heartbeats are missed.
_AWS = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})

_METADATA_ATTEMPTS = 30
_METADATA_RETRY_S = 2.0

_PLAIN_FIELDS = frozenset(vars(logging.makeLogRecord({})))


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, message and the fields given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"at": round(record.created, 3), "level": record.levelname.lower(), "message": record.getMessage()}
        line |= {name: value for name, value in vars(record).items() if name not in _PLAIN_FIELDS}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def main() -> int:
    _log_to_stdout()
    try:
        settings = NodeSettings.from_env(os.environ)
    except InvalidSettings as error:
        log.critical("invalid settings", extra={"problems": str(error)})
        return 2
    waker = threading.Event()
    metadata = imds.endpoint(os.environ)
    identity = _identify(metadata, waker)
    if identity is None:
        return 1
    agent = _compose(settings, identity, metadata=metadata, waker=waker)

    def stop(*_: object) -> None:
        agent.stop()
        waker.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return agent.run()


def _log_to_stdout() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _identify(base: str, waker: threading.Event) -> imds.Identity | None:
    """None when the metadata service stays silent: without a name there is nothing to report and nothing to lease."""
    for _ in range(_METADATA_ATTEMPTS):
        try:
            return imds.identify(base)
        except imds.MetadataUnavailable as error:
            reason = str(error)
            waker.wait(_METADATA_RETRY_S)
    log.critical("metadata service unavailable", extra={"reason": reason})
    return None


def _compose(settings: NodeSettings, identity: imds.Identity, *, metadata: str, waker: threading.Event) -> Agent:
    clock = SteadyClock(time.time, time.monotonic)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    table = Table(
        boto3.client("dynamodb", region_name=region, config=_AWS),
        boto3.client("autoscaling", region_name=region, config=_AWS),
        names=Names(settings.instances_table, settings.models_table, settings.group),
    )

    def start_engine(spec: engine.EngineSpec) -> engine.Engine:
        return engine.Engine(
            engine.command(spec, settings.engine, identity.ip),
            _engine_environment(settings, os.environ),
            clock=clock,
            host=identity.ip,
            end_elsewhere=_end_elsewhere(os.environ),
        )

    def sleep(seconds: float) -> None:
        waker.wait(seconds)  # a signal ends the sleep

    return Agent(
        settings,
        identity,
        table=table,
        start_engine=start_engine,
        gpu_answers=engine.gpu_answers,
        taken_down=lambda: imds.taken_down(metadata),
        spot_notice=lambda: imds.spot_notice(metadata),
        clock=clock,
        sleep=sleep,
        alive=Watchdog(os.environ),
    )


def _engine_environment(settings: NodeSettings, environ: Mapping[str, str]) -> dict[str, str]:
    return engine.environment(environ, ready_timeout_s=settings.boot_limit_s)


def _end_elsewhere(environ: Mapping[str, str]) -> Callable[[], None]:
    """What of the engine is no process of ours; what is wrong with its settings is told by its own program."""
    kind = environ.get(f"{ENGINE_PREFIX}KIND")
    return installation.end_container if kind == EngineKind.CONTAINER else lambda: None


if __name__ == "__main__":
    sys.exit(main())
