"""One model against the instance types that it lists: what does not fit, what may not, and what would. Pure."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from control_plane.configuration import Problem, remove, set_path
from control_plane.fit import Answer, EngineArguments, Verdict
from control_plane.geometry import Geometry
from control_plane.instance_types import Candidate, UnknownInstanceType, cheapest, fits, known
from control_plane.model import Model

_TOKEN_STEP = 1024


@dataclass(frozen=True)
class Hardware:
    """Every listed type must be one that we know, and one that the model fits."""

    model: Model
    path: str  # of the model in the stack's configuration, as in ``models[1]``
    arguments: EngineArguments
    geometry: Geometry | None  # None: not known, so only the types' names are looked at

    def problems(self) -> Iterator[Problem]:
        """One for each type that is unknown or too small, with the cheapest that would do."""
        used = {name for name in self.model.instance_types if self._is_good(name)}
        for place, name in enumerate(self.model.instance_types):
            where = f"{self.path}.instanceTypes[{place}]"
            if name not in known():
                what = str(UnknownInstanceType(name, tuple(known())))
                yield Problem(f"{self.path} ({self.model.name}): {what}", self._instead(name, where, used))
            elif not self._is_good(name):
                verdict = self._verdicts[name]
                what = f"{self.path} ({self.model.name}) does not fit {name}: {verdict.reason}{self._best_told()}"
                problem = Problem(what, self._mend(verdict, where, used))
                yield problem
                if problem.mend == remove(self.path):
                    return  # said once: given twice, the command would remove the next model

    def notes(self) -> Iterator[str]:
        """One for each type where the margin is too small to promise anything."""
        for name, verdict in self._verdicts.items():
            if verdict.answer is Answer.MAYBE:
                yield f"{self.model.name} may not fit {name}: {verdict.reason}, less than this sum may err by"

    @cached_property
    def _verdicts(self) -> Mapping[str, Verdict]:
        if self.geometry is None:
            return {}
        listed = [name for name in self.model.instance_types if name in known()]
        return {name: fits(self.geometry, self.arguments, name=name) for name in listed}

    @cached_property
    def _best(self) -> Candidate | None:
        if self.geometry is None:
            return None
        # Other arguments may help a type that is too small, and harm those beside it that are not.
        alone = not any(self._is_good(name) for name in self.model.instance_types)
        return cheapest(self.geometry, self.arguments, spread=alone)

    def _is_good(self, name: str) -> bool:
        return name in known() and (not self.geometry or self._verdicts[name].answer is not Answer.NO)

    def _best_told(self) -> str:
        if self._best is None:
            return ""
        kind, parallel = self._best.instance_type, self._best.tensor_parallel
        changed = f", with --tensor-parallel-size {parallel}" if parallel != self.arguments.tensor_parallel else ""
        return f". The cheapest type that it fits is {kind.name} ({kind.usd_per_hour:.2f} $ an hour{changed})"

    def _mend(self, verdict: Verdict, where: str, used: set[str]) -> str:
        words = self.model.vllm_args
        if verdict.flag == "--quantization":
            return set_arguments(self.path, without(words, "--quantization", "-q"))
        if verdict.flag == "--max-model-len" and self.geometry:
            return self._set_option("--max-model-len", self.geometry.max_position)
        if self._best:
            return self._use_best(self._best, where, used)
        if used:
            return remove(where)
        if (verdict.max_tokens or 0) >= _TOKEN_STEP:
            return self._set_option("--max-model-len", (verdict.max_tokens or 0) // _TOKEN_STEP * _TOKEN_STEP)
        return remove(self.path)

    def _use_best(self, best: Candidate, where: str, used: set[str]) -> str:
        name, parallel = best.instance_type.name, best.tensor_parallel
        if parallel == self.arguments.tensor_parallel:
            return self._put(name, where, used)
        arguments = self._set_option("--tensor-parallel-size", parallel, "-tp")
        if where.endswith("[0]") and name in self.model.instance_types:
            return arguments  # the type is right, and only its GPUs were not all used
        return f"{arguments} && {self._put(name, where, used)}" if name not in used else remove(where)

    def _instead(self, name: str, where: str, used: set[str]) -> str:
        """For a type that we do not know: the cheapest that fits, else the one with the most similar name."""
        similar = difflib.get_close_matches(name, known(), n=1, cutoff=0)[0]
        return self._put(self._best.instance_type.name if self._best else similar, where, used)

    def _put(self, name: str, where: str, used: set[str]) -> str:
        if name in used:
            return remove(where)
        used.add(name)
        return set_path(where, name)

    def _set_option(self, flag: str, value: object, *aliases: str) -> str:
        return set_arguments(self.path, [*without(self.model.vllm_args, flag, *aliases), flag, str(value)])


def set_arguments(path: str, words: Sequence[str]) -> str:
    """The command that gives a model these engine arguments."""
    return set_path(f"{path}.vllmArgs", shlex.join(words)) if words else remove(f"{path}.vllmArgs")


def without(words: Sequence[str], *flags: str) -> list[str]:
    """The arguments without these flags and their values."""
    kept: list[str] = []
    dropping = False
    for word in words:
        if word.startswith("-"):
            flag, equals, _ = word.partition("=")
            dropping = flag in flags and not equals
            if flag in flags:
                continue
        elif dropping:
            continue
        kept.append(word)
    return kept
