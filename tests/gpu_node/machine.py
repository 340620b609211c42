"""A machine where a node's scripts run for real: in a scratch folder, with stand-ins for what would touch more."""

from __future__ import annotations

import atexit
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gpu_node import package, user_data
from gpu_node.engine_settings import EngineSettings
from gpu_node.settings import NodeSettings

FOLDERS = (
    *("/etc/diogenes", "/opt/diogenes", "/opt/dlami", "/run/diogenes"),
    *("/var/lib/diogenes", "/var/lib/docker", "/var/lib/containerd"),
)
SETTINGS = NodeSettings(
    model="org/Tiny-1B:v2",
    instances_table="diogenes-prod-instances",
    models_table="diogenes-prod-models",
    group="diogenes-prod-org-tiny-1b-v2-on-demand",
    engine=f"{user_data.PROGRAM}/engine.sh",
)
TOKEN_PARAMETER = "/diogenes-prod/hf-token"

# Each notes its command line; what it answers is in files that a test writes.
STAND_INS: Mapping[str, str] = {
    "aws": """
case "$1 $2" in
  "s3api get-object")
    [ ! -s "$ANSWERS/outages" ] || { sed -i 1d "$ANSWERS/outages"; echo "no route" >&2; exit 255; }
    for last; do :; done
    cp "$ANSWERS/package" "$last" && echo '{"ContentLength": 1}' ;;
  "ssm get-parameter") cat "$ANSWERS/token" ;;
  *) exit 252 ;;
esac""",
    "systemctl": """
case "$1" in
  is-active) exit "$(cat "$ANSWERS/is-active" 2>/dev/null || echo 3)" ;;
  start | stop) exit "$(cat "$ANSWERS/$1-$2" 2>/dev/null || echo 0)" ;;
esac""",
    "python3": """
if [ "$1" = - ]; then exit "$(cat "$ANSWERS/python" 2>/dev/null || echo 0)"; fi
[ "$1 $2" = "-m venv" ] || exit 2
for last; do :; done
ln -s "$ENVIRONMENT" "$last"
""",
    "mountpoint": """exit "$(cat "$ANSWERS/mountpoint" 2>/dev/null || echo 1)\"""",
    "lsblk": """cat "$ANSWERS/disks" 2>/dev/null || true""",
    "mdadm": """exit "$(cat "$ANSWERS/mdadm" 2>/dev/null || echo 0)\"""",
    "mkfs.ext4": """exit "$(cat "$ANSWERS/mkfs" 2>/dev/null || echo 0)\"""",
    "mount": """
if [ "$1" = --bind ]; then exit "$(cat "$ANSWERS/bind" 2>/dev/null || echo 0)"; fi
echo 0 > "$ANSWERS/mountpoint\"""",
    "id": "exit 1",
    **dict.fromkeys(("systemd-run", "useradd", "usermod", "chown", "apt-get", "sleep"), ":"),
}


@dataclass(frozen=True)
class Outcome:
    """What the boot left behind."""

    status: int
    output: str
    calls: Sequence[str]  # of the stand-ins, in their order
    root: Path

    def called(self, beginning: str) -> Sequence[str]:
        return [call for call in self.calls if call.startswith(beginning)]

    @property
    def is_off(self) -> bool:
        return "systemctl poweroff" in self.calls


class Machine:
    """New, with a package in the bucket that boots, and everything around it as it should be."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers = root / "answers"
        self.answers.mkdir()
        self._calls = root / "calls"
        self._calls.touch()
        (root / "var/lib").mkdir(parents=True)
        self._write_stand_ins(root / "bin")
        self.put_package()

    def put_package(self, **changes: bytes) -> package.Package:
        """The agent's package in the bucket, moved to this machine; without what it would have to fetch."""
        files = {name: self.moved(content) for name, content in contents(package.build()).items()}
        files["requirements.txt"] = b""
        made = package.pack({**files, **changes})
        (self.answers / "package").write_bytes(made.content)
        return made

    def boot(
        self,
        expected: package.Package | None = None,
        *,
        token: bool = False,
        engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
    ) -> Outcome:
        """What cloud-init does with the user data of a node that shall find ``expected``."""
        boot = user_data.Boot(
            settings=SETTINGS,
            region="eu-west-1",
            bucket="nodes-1234567",
            package=expected or package.Package((self.answers / "package").read_bytes()),
            hf_token_parameter=TOKEN_PARAMETER if token else None,
            engine=engine,
        )
        config = parsed(user_data.render(boot))
        for file in config["write_files"]:
            path = Path(self.moved(file["path"].encode()).decode())
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.moved(file["content"].encode()))
            path.chmod(int(file.get("permissions", "0644"), 8))
        (command,) = config["runcmd"]
        return self.run([self.moved(word.encode()).decode() for word in command])

    def run(self, command: Sequence[str], **environ: str) -> Outcome:
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        given = {"PATH": path, "ANSWERS": str(self.answers), "ENVIRONMENT": _environment(), "TMPDIR": str(self.root)}
        done = subprocess.run(
            command, env={**given, **environ}, capture_output=True, text=True, timeout=60, check=False
        )
        return Outcome(done.returncode, done.stdout + done.stderr, self._calls.read_text().splitlines(), self.root)

    def moved(self, content: bytes) -> bytes:
        """With every folder of a node below the scratch folder."""
        for folder in FOLDERS:
            content = re.sub(rb"(?<![\w/])" + folder.encode(), f"{self.root}{folder}".encode(), content)
        return content

    def _write_stand_ins(self, folder: Path) -> None:
        folder.mkdir()
        for name, body in STAND_INS.items():
            script = folder / name
            script.write_text(f'#!/bin/bash\necho "{name} $*" >> "{self._calls}"\n{body.strip()}\n')
            script.chmod(0o755)


@cache
def _environment() -> str:
    """A real virtual environment, made once: it takes seconds."""
    folder = tempfile.mkdtemp(prefix="diogenes-venv-")
    atexit.register(shutil.rmtree, folder)
    venv.create(folder, with_pip=True)
    return folder


def parsed(text: str) -> Any:
    """Cloud-config of ours, which is JSON below its first line."""
    first, rest = text.split("\n", 1)
    assert first == "#cloud-config"
    return json.loads(rest)


def contents(packed: package.Package) -> Mapping[str, bytes]:
    """The files of a package."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed.content)) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content
            found[member.name] = content.read()
    return found
