"""A STAND-IN for vLLM: the same command line, log, port and HTTP, but no model behind it. It says so in every answer.

    python -m rehearsal.engine serve REPOSITORY --served-model-name NAME --host H --port P [any other flag of vLLM]

Flags that change its manners are honoured (``--max-model-len``, ``--max-num-seqs``, ``--runner pooling``,
``--enable-force-include-usage``, ``--shutdown-timeout``), all others are accepted and ignored. For tests, the
environment sets

    REHEARSAL_LOAD_SECONDS   from start to ready (2)         REHEARSAL_TOKENS         of an answer (24)
    REHEARSAL_BOOT_FAILURE   see engine_log.BOOT_FAILURES    REHEARSAL_TOKEN_SECONDS  between two tokens (0.02)

and a prompt may hold ``[[tokens=200 gap=0.05]]``, ``[[crash]]`` (the process dies in the middle of the answer),
``[[error]]`` (the answer breaks off with an error) or ``[[hang]]`` (from here on the engine makes no token any more,
for anybody, though it answers its health check).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

import uvicorn

from rehearsal.engine_http import application
from rehearsal.engine_log import BOOT_FAILURES, boot, boot_steps
from rehearsal.engine_model import Model, Options

_USAGE = "usage: engine serve REPOSITORY [--served-model-name NAME] [--host HOST] [--port PORT] [flags of vLLM]"


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Options:
    """The command line and the environment. Raises SystemExit with what is wrong."""
    if len(argv) < 2 or argv[0] != "serve":
        raise SystemExit(_USAGE)
    flags = _flags(argv[2:])
    failure = environ.get("REHEARSAL_BOOT_FAILURE") or None
    if failure and failure not in BOOT_FAILURES:
        raise SystemExit(f"REHEARSAL_BOOT_FAILURE must be one of {', '.join(BOOT_FAILURES)}")
    return Options(
        repository=argv[1],
        names=flags.get("--served-model-name") or [argv[1]],
        host=_last(flags, "--host", Options.host),
        port=int(_last(flags, "--port", str(Options.port))),
        pooling=_last(flags, "--runner", "") == "pooling" or _last(flags, "--task", "") == "embed",
        max_model_len=_number(flags, "--max-model-len", Options.max_model_len),
        max_num_seqs=_number(flags, "--max-num-seqs", Options.max_num_seqs),
        always_usage="--enable-force-include-usage" in flags,
        shutdown_timeout_s=_number(flags, "--shutdown-timeout", 0),
        tool_calls="--enable-auto-tool-choice" in flags and "--tool-call-parser" in flags,
        load_s=float(environ.get("REHEARSAL_LOAD_SECONDS", Options.load_s)),
        boot_failure=failure,
        tokens=int(environ.get("REHEARSAL_TOKENS", Options.tokens)),
        token_s=float(environ.get("REHEARSAL_TOKEN_SECONDS", Options.token_s)),
    )


def _flags(words: Sequence[str]) -> dict[str, list[str]]:
    flags: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("-") and not word.lstrip("-").isdigit():
            name, _, value = word.partition("=")
            flags[name] = [value] if value else []
        elif name:
            flags[name].append(word)
    return flags


def _last(flags: Mapping[str, list[str]], name: str, default: str) -> str:
    return (flags.get(name) or [default])[-1]


def _number(flags: Mapping[str, list[str]], name: str, default: int) -> int:
    text = _last(flags, name, str(default))
    return int(text) if text.isdigit() else default  # vLLM also takes 32k and auto


class Server(uvicorn.Server):
    """Ends as vLLM does: what runs may end within the shutdown timeout, and new requests are refused meanwhile, though
    the health check says that all is well; then every stream breaks off with an error, and the process goes."""

    def __init__(self, config: uvicorn.Config, model: Model) -> None:
        super().__init__(config)
        self._model = model
        self._end: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._end is None:
            loop = asyncio.get_running_loop()
            self._end = loop.create_task(self._go(sig, frame))

    async def _go(self, sig: int, frame: FrameType | None) -> None:
        await self._model.drain()
        self._model.stop()
        super().handle_exit(sig, frame)


async def serve(options: Options) -> None:
    model = Model(options)
    config = uvicorn.Config(
        application(model),
        host=options.host,
        port=options.port,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    await Server(config, model).serve()


def main() -> None:
    options = parse(sys.argv[1:], os.environ)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # while it loads; later the server's
    steps = boot_steps(repository=options.repository, host=options.host, port=options.port)
    for line in boot(steps, seconds=options.load_s, failure=options.boot_failure):
        print(line, flush=True)
    if options.boot_failure:
        raise SystemExit(2 if options.boot_failure == "bad_engine_argument" else 1)
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
