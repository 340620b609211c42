"""The models of a stack together: each one's configuration, their names side by side, and whether they fit. Pure."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.configuration import Blank, Problem, remove, set_path
from control_plane.fit import EngineArguments, InvalidArguments
from control_plane.geometry import Geometry, ReadGeometry, Unread
from control_plane.hardware import Hardware, set_arguments, without
from control_plane.model import CONFIG_KEYS, Fault, InvalidModel, Model, reserved_flags, slug

_EXAMPLES: Mapping[str, object] = {
    "name": "Qwen/Qwen3-14B-AWQ",
    "repository": Blank("owner/name"),
    "instanceTypes": "g5.xlarge",
    "market": "on-demand",
    "idleTimeout": 300,
    "maxInstances": 1,
}
_OF_HARDWARE = {"name", "repository", "revision", "instanceTypes", "vllmArgs", "geometry"}
FIRST_MODEL = (
    f"{set_path('models[0].name', _EXAMPLES['name'])} && {set_path('models[0].instanceTypes[0]', 'g5.xlarge')}"
)
"""How to configure a first model."""


@dataclass(frozen=True)
class Lineup:
    """The models that can be used, and what is wrong or not known of them and of the others."""

    models: Sequence[Model] = ()
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()

    def __add__(self, other: Lineup) -> Lineup:
        return Lineup((*self.models, *other.models), (*self.problems, *other.problems), (*self.notes, *other.notes))


def line_up(configs: Sequence[Any], read_geometry: ReadGeometry) -> Lineup:
    """Checks all models of a stack; asks for the geometry of each whose own configuration is sound."""
    if not configs:
        return Lineup(problems=[Problem("no model is configured", FIRST_MODEL)])
    lineup = Lineup()
    for index, config in enumerate(configs):
        lineup += _one(config, index, lineup.models, read_geometry)
    return lineup


def _one(config: object, index: int, before: Sequence[Model], read_geometry: ReadGeometry) -> Lineup:
    path = f"models[{index}]"
    if not isinstance(config, Mapping):
        what = f"{path} is {config!r}, and must be an object with a name and instanceTypes"
        return Lineup(problems=[Problem(what, remove(path))])
    try:
        model = Model.parse(config)
    except InvalidModel as error:
        faults = Lineup(problems=[_of_fault(fault, index, config) for fault in error.faults])
        return faults + _rest(config, error.faults, index, read_geometry)
    named = Lineup(models=[model], problems=list(_name_problems(model, path, before)))
    return named + _fit(model, path, read_geometry)


def _rest(config: Mapping[str, Any], faults: Sequence[Fault], index: int, read_geometry: ReadGeometry) -> Lineup:
    """What would show up once these faults are mended: whether the hardware is right, where they do not concern it."""
    wrong = {fault.key.partition("[")[0] for fault in faults}
    if wrong & _OF_HARDWARE:
        return Lineup()
    model = Model.parse({key: value for key, value in config.items() if key not in wrong})
    return _fit(model, f"models[{index}]", read_geometry)


# -- one model's own configuration ----------------------------------------------------------------------------------


def _of_fault(fault: Fault, index: int, config: Mapping[str, Any]) -> Problem:
    what = f"models[{index}] ({config.get('name')}): {fault.told}"
    path = f"models[{index}].{fault.key}"
    if fault.surplus:
        meant = difflib.get_close_matches(fault.key, sorted(CONFIG_KEYS - set(config)), n=1)
        if not meant:
            return Problem(what, remove(path))
        moved = set_path(f"models[{index}].{meant[0]}", config[fault.key])
        return Problem(f"{what}; did you mean {meant[0]}?", f"{remove(path)} && {moved}")
    if fault.key == "vllmArgs":
        return Problem(what, _without_reserved(f"models[{index}]", config.get("vllmArgs")))
    if fault.key == "instanceTypes":
        clear = f"{remove(path)} && " if config.get("instanceTypes") else ""
        return Problem(what, f"{clear}{set_path(path + '[0]', _EXAMPLES['instanceTypes'])}")
    example = _EXAMPLES.get(fault.key.partition("[")[0])
    return Problem(what, set_path(path, example) if example else remove(path))


def _without_reserved(path: str, text: object) -> str:
    try:
        words = shlex.split(text) if isinstance(text, str) else []
    except ValueError:
        words = []
    return set_arguments(path, without(words, *reserved_flags(words)))


def _name_problems(model: Model, path: str, before: Sequence[Model]) -> Iterator[Problem]:
    names = [other.name for other in before]
    if model.name in names:
        yield Problem(f"{path} ({model.name}): configured twice", remove(path))
        return
    for other in names:
        if slug(other) == slug(model.name):
            what = f"{path} ({model.name}): its AWS resources would have the names of those of {other}"
            keep = set_path(f"{path}.repository", model.repository)
            yield Problem(what, f"{keep} && {set_path(f'{path}.name', model.name + '-2')}")


# -- whether it fits ------------------------------------------------------------------------------------------------


def _fit(model: Model, path: str, read_geometry: ReadGeometry) -> Lineup:
    try:
        arguments = EngineArguments.parse(model.vllm_args)
    except InvalidArguments as error:
        kept = without(model.vllm_args, error.flag)
        return Lineup(problems=[Problem(f"{path} ({model.name}): {error}", set_arguments(path, kept))])
    geometry, note = _geometry(model, read_geometry)
    hardware = Hardware(model, path, arguments, geometry)
    return Lineup(problems=list(hardware.problems()), notes=[*([note] if note else []), *hardware.notes()])


def _geometry(model: Model, read_geometry: ReadGeometry) -> tuple[Geometry | None, str | None]:
    """What is known of the model's shape, and what the operator should know about how it is known."""
    read = read_geometry(model.repository, model.revision)
    if not isinstance(read, Unread):
        return read, None
    given = model.config.get("geometry")
    if given:
        note = f"{model.name} was checked by the numbers of its geometry only: {read.reason}" if read.asked else None
        return Geometry.of_numbers(given), note
    return None, f"whether {model.name} fits could not be checked: {read.reason} (its geometry by hand would help)"
