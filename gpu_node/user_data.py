"""What a new node boots with: cloud-config that fetches the agent's package, checks it and hands over. Pure.

Small, because EC2 limits it, and free of secrets, because everybody who may describe instances can read it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpu_node.engine_settings import EngineSettings
from gpu_node.package import Package
from gpu_node.settings import NodeSettings

PROGRAM = "/opt/diogenes"
"""Where the package is unpacked on a node."""

DEAD_MAN_MIN = 20
"""Minutes after which a machine is off whose agent has not started by then."""

LIFETIME_GRACE_MIN = 30
"""Minutes past its lifetime after which a machine is off whose agent has not ended it by then."""

_PLAIN = re.compile(r"[A-Za-z0-9._/:@+=-]+")


@dataclass(frozen=True)
class Boot:
    """What a node has to know to become one."""

    settings: NodeSettings
    region: str
    bucket: str
    package: Package
    hf_token_parameter: str | None = None
    engine: EngineSettings = field(default_factory=EngineSettings)

    def environment(self) -> Mapping[str, str]:
        """The variables of the agent's service, and of the script that starts it."""
        token = {"DIOGENES_HF_TOKEN_PARAMETER": self.hf_token_parameter} if self.hf_token_parameter else {}
        return {"AWS_REGION": self.region, **self.settings.to_env(), **self.engine.to_env(), **token}


def render(boot: Boot) -> str:
    """The cloud-config. Raises ValueError for a value that a shell or systemd would take for more than a word."""
    environment = boot.environment()
    for name, value in {"bucket": boot.bucket, **environment}.items():
        if not _PLAIN.fullmatch(value):
            raise ValueError(f"{name} cannot be {value!r} on a node")
    config = {
        # At every boot and before all else: a machine that only restarts has no agent either. Not waited for, because
        # the timer starts after the system's early services, and cloud-init is one of these.
        "bootcmd": [["systemd-run", "--no-block", *_DEAD_MAN], ["systemd-run", "--no-block", *_last_resort(boot)]],
        "write_files": [
            {"path": "/etc/diogenes/node.env", "content": _lines(environment)},
            {"path": "/etc/diogenes/start.sh", "permissions": "0755", "content": _start(boot)},
        ],
        "runcmd": [["/etc/diogenes/start.sh"]],
    }
    return "#cloud-config\n" + json.dumps(config, indent=1) + "\n"  # JSON is YAML


def _last_resort(boot: Boot) -> Sequence[str]:
    """Whatever becomes of the agent, the machine does not live for ever. Nothing takes this timer back."""
    minutes = math.ceil(boot.settings.max_lifetime_s / 60) + LIFETIME_GRACE_MIN
    return (f"--on-active={minutes}min", "--unit=diogenes-lifetime", "systemctl", "poweroff")


def _start(boot: Boot) -> str:
    given = {
        "region": boot.region,
        "bucket": boot.bucket,
        "key": boot.package.key,
        "sha256": boot.package.sha256,
        "program": PROGRAM,
    }
    return f"#!/bin/bash\n{_lines(given)}{_START}"


def _lines(variables: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in variables.items())


_DEAD_MAN = (f"--on-active={DEAD_MAN_MIN}min", "--unit=diogenes-deadman", "systemctl", "poweroff")

_START = f"""set -euo pipefail
# Whatever fails: off. The machine's shutdown is its termination, and the next one may do better.
trap 'echo "diogenes: the node cannot start: off" >&2; systemctl poweroff' EXIT
systemctl is-active --quiet diogenes-deadman.timer || systemd-run {" ".join(_DEAD_MAN)}

archive=$(mktemp)
fetch() {{
  aws s3api get-object --region "$region" --bucket "$bucket" --key "$key" "$archive" > /dev/null &&
    echo "$sha256  $archive" | sha256sum --check --status
}}
for pause in 1 2 4 8 16 32 0; do
  if fetch; then break; fi
  echo "diogenes: the agent's package cannot be fetched" >&2
  if [ "$pause" = 0 ]; then exit 1; fi
  sleep "$pause"
done
mkdir -p "$program"
tar -xzf "$archive" -C "$program" --no-same-owner
"$program/bootstrap.sh" /etc/diogenes/node.env
trap - EXIT
"""
