"""A stack's configuration as its files have it, read without Pulumi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from control_plane.deployment import SECRETS


@dataclass(frozen=True)
class Remedies:
    """Commands that mend or show something of one stack, ready to paste."""

    namespace: str
    stack: str
    region: str

    @property
    def up(self) -> str:
        return f"pulumi up --stack {self.stack}"

    @property
    def task_log(self) -> str:
        return self._log(f"/{self.namespace}/control-plane")

    def function_log(self, name: str) -> str:
        """Of ``night`` or ``janitor``."""
        return self._log(f"/aws/lambda/{self.namespace}-{name}")

    def terminate(self, instance_id: str) -> str:
        return f"aws ec2 terminate-instances --region {self.region} --instance-ids {instance_id}"

    def _log(self, group: str) -> str:
        return f"aws logs tail {group} --since 30m --region {self.region}"


class NoStack(Exception):
    """There is no such stack here; the message says what is missing, ``fix`` what to do."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


@dataclass(frozen=True)
class StackFile:
    """The values by their names in ``Pulumi.yaml`` without the project's; those that are encrypted stay so."""

    project: str
    stack: str
    region: str | None
    values: Mapping[str, Any] = field(repr=False)

    @property
    def namespace(self) -> str:
        return f"{self.project}-{self.stack}"

    @property
    def secrets_in_clear(self) -> Sequence[str]:
        return [name for name in SECRETS if isinstance(self.values.get(name), str) and self.values[name]]

    @classmethod
    def read(cls, folder: Path, stack: str) -> StackFile:
        """``Pulumi.yaml`` with its defaults and ``Pulumi.<stack>.yaml`` of a folder. Raises NoStack."""
        project = _load(folder / "Pulumi.yaml", "run this in the project's folder, or name it: --directory …")
        given = _load(folder / f"Pulumi.{stack}.yaml", f"pulumi stack init {stack}, or name another: --stack …")
        name = str(project.get("name", ""))
        config = _mapping(given.get("config"))
        defaults = {
            key: setting["default"]
            for key, setting in _mapping(project.get("config")).items()
            if isinstance(setting, Mapping) and "default" in setting
        }
        # What belongs to other namespaces, aws:region for one, is not ours to check.
        own = {key.removeprefix(f"{name}:"): value for key, value in config.items() if key.startswith(f"{name}:")}
        region = config.get("aws:region")
        return cls(name, stack, str(region) if region else None, {**defaults, **own})


def _load(path: Path, fix: str) -> Mapping[str, Any]:
    try:
        return _mapping(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise NoStack(f"{path} cannot be read: {error.strerror}", fix) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NoStack(f"{path} is not YAML: {str(error).splitlines()[0]}", f"mend {path}") from error


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
