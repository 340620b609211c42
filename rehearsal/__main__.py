"""`python -m rehearsal`: everything up, until Ctrl-C. README.md names the variables."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from control_plane.model import InvalidModel
from rehearsal.desk import ENGINES, Desk, DeskFailure, Options
from rehearsal.ec2 import HOME
from rehearsal.faults import UnknownFault
from rehearsal.seed import models_of_stack

_GUIDE = """
  Base URL   {base_url}
  API key    {api_key}
  Web        {web_url}

  curl -N {base_url}/chat/completions \\
    -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{base_url}", api_key="{api_key}")
  for chunk in client.chat.completions.create(
      model="{model}", messages=[{{"role": "user", "content": "Hello"}}], stream=True
  ):
      for choice in chunk.choices:
          print(choice.delta.content or "", end="", flush=True)

  Ctrl-C ends it. The first question to a model takes a while: its machine has to boot.

DIOGENES_READY base_url={base_url} api_key={api_key} web_url={web_url}
"""


def main() -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        options = options_from(os.environ)
        with Desk(options, tell=_tell) as desk:
            try:
                _guide(desk)
                _until_over(desk)
            finally:
                _tell("stopping")
                for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave half of it behind
                    signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:
        return 0
    except (DeskFailure, InvalidModel, UnknownFault, OSError, ValueError) as error:
        sys.stderr.write(f"rehearsal: {error}\n")
        return 1
    return 0


def options_from(environ: Mapping[str, str]) -> Options:
    """Raises ValueError naming what is wrong."""
    engine = environ.get("ENGINE") or "builtin"
    if engine not in ENGINES:
        raise ValueError(f"ENGINE={engine}: write one of {', '.join(ENGINES)}")
    faults = environ.get("FAULTS")
    return Options(
        port=int(_number(environ, "PORT", "8080")),
        boot_seconds=_number(environ, "BOOT_SECONDS", "5"),
        load_seconds=_number(environ, "LOAD_SECONDS", "5"),
        idle_seconds=int(_number(environ, "IDLE_SECONDS", "60")),
        engine=engine,
        faults=Path(faults).absolute() if faults else None,
        environment=_vllm_environment(environ) if engine == "vllm" else {},
    )


def _number(environ: Mapping[str, str], name: str, default: str) -> float:
    text = environ.get(name) or default
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{name}={text}: write a number") from error


def _vllm_environment(environ: Mapping[str, str]) -> Mapping[str, str]:
    return {"REHEARSAL_VLLM_VENV": environ.get("REHEARSAL_VLLM_VENV") or str(HOME / ".cache" / "vllm-venv")}


def _guide(desk: Desk) -> None:
    model = models_of_stack()[0]["name"]
    sys.stdout.write(
        _GUIDE.format(base_url=desk.base_url, api_key=desk.api_key, web_url=desk.web_url, model=model),
    )
    sys.stdout.flush()


def _until_over(desk: Desk) -> None:
    tick = threading.Event()
    while not tick.wait(0.5):
        if desk.control_plane_exited:
            log = desk.control_plane_log.read_text(errors="replace").splitlines()[-30:]
            raise DeskFailure("the control plane ended by itself\n" + "\n".join(log))


def _tell(line: str) -> None:
    sys.stderr.write(f"· {line}\n")
    sys.stderr.flush()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
