"""What is done to AWS's image to make it ours: an Image Builder component, as a document. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from gpu_node.package import Package

ENGINE_HOME = "/opt/diogenes-engine"
"""Where ``installation.BAKED`` looks for the engine."""

AGENT_HOME = "/opt/diogenes-agent"
"""Where ``bootstrap.sh`` looks for the agent's packages."""

_SCRATCH = "/opt/diogenes-baking"

VOLUME_GB = 75
"""Of the image: AWS's own takes most of it. A node's root volume is at least as large."""


@dataclass(frozen=True)
class Baking:
    """What goes into the image."""

    region: str
    bucket: str
    package: Package  # with the engine's list, and what installs it
    parent_image: str  # the AMI to begin with

    @property
    def version(self) -> str:
        """Another content has another version: Image Builder keeps one document for each."""
        told = json.dumps([self.package.sha256, self.parent_image, document(self)])
        return f"1.0.{int(hashlib.sha256(told.encode()).hexdigest()[:7], 16)}"


def document(baking: Baking) -> str:
    """The component: fetch the agent's package, check it, install from it what the agent needs, and the engine, and see
    that both are whole."""
    package, archive = baking.package, f"{_SCRATCH}/package.tar.gz"
    fetch = [
        "set -euo pipefail",
        f"mkdir -p {_SCRATCH}",
        f"aws s3api get-object --region {baking.region} --bucket {baking.bucket} --key {package.key} {archive}",
        f"echo '{package.sha256}  {archive}' | sha256sum --check --status",
        f"tar -xzf {archive} -C {_SCRATCH} --no-same-owner",
    ]
    install = [
        "set -euo pipefail",
        "export DEBIAN_FRONTEND=noninteractive",
        "apt-get -o DPkg::Lock::Timeout=600 update -qq",
        "apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends python3-venv python3-dev",
        f"{_SCRATCH}/agent_env.sh {AGENT_HOME}",
        f"{_SCRATCH}/install.sh {ENGINE_HOME}",
        f"rm -rf {_SCRATCH} /root/.cache",
    ]
    check = [
        "set -euo pipefail",
        f"test -s {ENGINE_HOME}/.installed",
        f"test -s {AGENT_HOME}/.installed",
        f"{AGENT_HOME}/bin/python -c 'import boto3'",
        f"{ENGINE_HOME}/bin/python -c 'import importlib.metadata as found; print(found.version(\"vllm\"))'",
    ]
    phases = [
        {"name": "build", "steps": [_step("Fetch", fetch), _step("Install", install)]},
        {"name": "validate", "steps": [_step("Check", check)]},
    ]
    return json.dumps({"name": "diogenes-engine", "schemaVersion": "1.0", "phases": phases}, indent=1)  # JSON is YAML


def _step(name: str, commands: list[str]) -> dict[str, object]:
    # One script each: Image Builder runs every command of a list in a shell of its own.
    return {"name": name, "action": "ExecuteBash", "inputs": {"commands": ["\n".join(commands)]}}
