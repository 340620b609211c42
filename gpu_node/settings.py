"""All settings of the agent; the only reader of the environment on a node.

Region, credentials and endpoints are the AWS SDK's own variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

PREFIX = "DIOGENES_NODE_"


class InvalidSettings(ValueError):
    """The environment cannot be used; the message lists every problem."""


@dataclass(frozen=True)
class NodeSettings:
    """Seconds unless the name says otherwise. Each is read from ``DIOGENES_NODE_<NAME>``."""

    model: str = ""  # name of the model, the key of its row
    instances_table: str = ""
    models_table: str = ""
    group: str = ""  # the Auto Scaling group
    engine: str = "vllm"  # program, with arguments; it is given vLLM's command line
    driver_check: bool = True  # 0 on a machine that shall run without a GPU
    heartbeat_s: float = 10.0
    boot_poll_s: float = 0.25  # between looks at the engine while it boots
    poll_s: float = 1.0  # the same once it is ready
    boot_limit_s: float = 1200.0  # of a whole start; of each of its phases, see phases.py:
    install_limit_s: float = 900.0
    weights_limit_s: float = 900.0
    load_limit_s: float = 600.0
    compile_limit_s: float = 600.0
    warmup_limit_s: float = 300.0
    blind_limit_s: float = 600.0  # see lease.py
    busy_limit_s: float = 600.0
    notice_s: float = 60.0
    max_lifetime_s: float = 86400.0  # of the machine, from its launch
    clock_jump_s: float = 60.0  # a wall clock that is set by this much makes the node leave
    unresponsive_limit_s: float = 120.0  # a ready engine that answers nothing for this long is lost
    suspect_after_s: float = 60.0  # an engine with requests that counts no token for this long is asked for one …
    probe_limit_s: float = 120.0  # … and is lost when that takes longer than this: a long prompt may be ahead of it

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> NodeSettings:
        """Raises InvalidSettings, with every problem in one message."""
        values: dict[str, str | bool | float] = {}
        problems = []
        for setting in fields(cls):
            name = PREFIX + setting.name.upper()
            default: str | bool | float = getattr(cls, setting.name)
            try:
                values[setting.name] = _parse(environ[name], type(default)) if name in environ else default
            except ValueError as error:
                problems.append(f"{name} {error}")
        problems += [f"{PREFIX}{name.upper()} is missing" for name, value in values.items() if value == ""]
        problems += [f"{name} is not a setting" for name in _unknown(environ)]
        if problems:
            raise InvalidSettings("; ".join(problems))
        return cls(**values)  # type: ignore[arg-type]  # each value has its default's type

    def to_env(self) -> dict[str, str]:
        """The variables that ``from_env`` reads back; what has its default is left out."""
        told = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        return {
            PREFIX + name.upper(): str(int(value)) if isinstance(value, bool) else str(value)
            for name, value in told.items()
            if value != getattr(NodeSettings, name)
        }


def _parse(text: str, kind: type) -> str | bool | float:
    if kind is bool:
        if text not in ("0", "1"):
            raise ValueError("must be 0 or 1")
        return text == "1"
    if kind is str:
        return text
    try:
        number = float(text)
    except ValueError as error:
        raise ValueError("must be a number") from error
    if not 0 < number < float("inf"):
        raise ValueError("must be above zero")
    return number


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = {PREFIX + setting.name.upper() for setting in fields(NodeSettings)}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
