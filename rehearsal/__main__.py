"""`python -m rehearsal`: everything up, until Ctrl-C. README.md names the variables."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pulumi

from control_plane.model import MAX_IDLE_TIMEOUT_S
from rehearsal.desk import ENGINES, Desk, DeskFailure, FrontOptions, Options
from rehearsal.ec2 import HOME
from rehearsal.faults import UnknownFault, parse
from rehearsal.stack import models_of_stack

_IDLE_S = "60"  # nobody at a desk waits ten minutes to see the control plane fall asleep
_LINGER_S = "2"  # the desk finds a task that was told to end unhealthy within one
_PROPAGATION_S = "5"  # the desk's own turns take two

_GUIDE = """
  Base URL   {base_url}
  API key    {api_key}
  Web        {web_url}

  curl -N -L {base_url}/chat/completions \\
    -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{base_url}", api_key="{api_key}")
  for chunk in client.chat.completions.create(
      model="{model}", messages=[{{"role": "user", "content": "Hello"}}], stream=True
  ):
      for choice in chunk.choices:
          print(choice.delta.content or "", end="", flush=True)

  Everything sleeps: the first question wakes the control plane, then a machine. Plain curl needs -L for that.
  Left alone, machine and control plane go again. Ctrl-C ends it.

DIOGENES_READY base_url={base_url} api_key={api_key} web_url={web_url}
"""


def main() -> int:
    """The exit status: 0 when told to end, 1 when something did not come up, 2 for odd variables."""
    try:
        options = options_from(os.environ)
    except ValueError as error:
        sys.stderr.write(f"rehearsal: {error}\n")
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Desk(options, tell=_tell) as desk:
            try:
                _guide(desk)
                threading.Event().wait()
            finally:
                _tell("stopping")
                for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not leave half of it behind
                    signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:
        return 0
    except (DeskFailure, pulumi.RunError, UnknownFault, OSError, ValueError) as error:
        sys.stderr.write(f"rehearsal: {error}\n")
        return 1
    return 0


def options_from(environ: Mapping[str, str]) -> Options:
    """Raises ValueError, one line that names the variable."""
    engine = environ.get("ENGINE") or "builtin"
    if engine not in ENGINES:
        raise ValueError(f"ENGINE={engine}: write one of {', '.join(ENGINES)}")
    return Options(
        port=_whole(environ, "PORT", 8080, low=0, high=65535),
        boot_seconds=_seconds(environ, "BOOT_SECONDS", 5.0),
        load_seconds=_seconds(environ, "LOAD_SECONDS", 5.0),
        idle_seconds=_whole(environ, "IDLE_SECONDS", 60, low=1, high=MAX_IDLE_TIMEOUT_S),
        engine=engine,
        faults=_faults(environ),
        environment={
            "DIOGENES_CONTROL_PLANE_IDLE_TIMEOUT_S": environ.get("DIOGENES_CONTROL_PLANE_IDLE_TIMEOUT_S", _IDLE_S),
            "DIOGENES_LINGER_S": environ.get("DIOGENES_LINGER_S", _LINGER_S),
            "DIOGENES_PROPAGATION_S": environ.get("DIOGENES_PROPAGATION_S", _PROPAGATION_S),
            **(_vllm_environment(environ) if engine == "vllm" else {}),
        },
        front=FrontOptions(),
    )


def _whole(environ: Mapping[str, str], name: str, default: int, *, low: int, high: int) -> int:
    text = environ.get(name) or str(default)
    with suppress(ValueError):
        if low <= int(text) <= high:
            return int(text)
    raise ValueError(f"{name}={text}: write a whole number from {low} to {high}")


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    with suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise ValueError(f"{name}={text}: write a number of seconds, zero or more")


def _faults(environ: Mapping[str, str]) -> Path | None:
    name = environ.get("FAULTS")
    if not name:
        return None
    try:
        parse(Path(name).read_text())
    except OSError as error:
        raise ValueError(f"FAULTS={name}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"FAULTS={name}: {' '.join(str(error).split())}") from error
    return Path(name).absolute()


def _vllm_environment(environ: Mapping[str, str]) -> Mapping[str, str]:
    return {"REHEARSAL_VLLM_VENV": environ.get("REHEARSAL_VLLM_VENV") or str(HOME / ".cache" / "vllm-venv")}


def _guide(desk: Desk) -> None:
    model = models_of_stack()[0]["name"]
    sys.stdout.write(
        _GUIDE.format(base_url=desk.base_url, api_key=desk.api_key, web_url=desk.web_url, model=model),
    )
    sys.stdout.flush()


def _tell(line: str) -> None:
    sys.stderr.write(f"· {line}\n")
    sys.stderr.flush()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
