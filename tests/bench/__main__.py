"""``python -m tests.bench``: the relay against no proxy, nginx and LiteLLM, and against its targets."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.bench import contenders
from tests.bench.build import CACHE, CannotBuild, Programs, build
from tests.bench.contenders import Absent, Recipe
from tests.bench.measure import Meter
from tests.bench.processes import pinning, real_time
from tests.bench.report import closing, table, verdicts
from tests.bench.results import Results
from tests.bench.rounds import Rounds

PARTS = ("direct", "nginx", "diogenes", "litellm", "cold", "flood", "night")


def main() -> int:
    options = _options()
    try:
        programs = build()
    except CannotBuild as error:
        sys.stderr.write(f"{error}\n")
        return 2
    results = Results()
    _run_rounds(options, programs, results)
    if "cold" in options.only:
        _run_cold(options, results)
    if "flood" in options.only:
        _run_flood(options, results)
    if "night" in options.only:
        _run_night(options, results)
    sys.stdout.write(f"\n{table(results)}\n\n")
    sys.stdout.write("".join(f"{line}\n" for line in closing(results)))
    _save(results)
    missed = any(verdict.met is False for verdict in verdicts(results))
    return 1 if options.strict and missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="about a minute: one short round, no LiteLLM, 3 cold starts"
    )
    parser.add_argument("--only", type=_parts, default=PARTS, help=f"some of {','.join(PARTS)}")
    parser.add_argument("--reps", type=int, help="rounds; 3 unless told")
    parser.add_argument("--cold-starts", type=int, help="20 unless told")
    parser.add_argument("--with-litellm", action="store_true", help="install LiteLLM's proxy first")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    options = parser.parse_args()
    options.reps = options.reps or (1 if options.quick else 3)
    options.cold_starts = options.cold_starts or (3 if options.quick else 20)
    if options.quick:
        options.only = [part for part in options.only if part != "litellm"]
    return options


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := set(parts) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(sorted(unknown))}")
    return parts


def _run_rounds(options: argparse.Namespace, programs: Programs, results: Results) -> None:
    with ExitStack() as stack:
        recipes = _recipes(options, results, stack)
        if not recipes and "direct" not in options.only:
            return
        engine = stack.enter_context(contenders.running_engine(programs))
        undisturbed = real_time()
        if not (undisturbed and pinning()):
            results.note("no real-time scheduling or only one CPU: other jobs of this machine show in the latencies")
        meter = Meter(programs.load, engine, pace=0.4 if options.quick else 1.0, real_time=undisturbed)
        rounds = Rounds(meter, engine, recipes, with_direct="direct" in options.only, results=results, tell=_tell)
        for number in range(options.reps):
            rounds.run(number)


def _recipes(options: argparse.Namespace, results: Results, stack: ExitStack) -> list[Recipe]:
    """Those who are asked for and can take part."""
    makers: dict[str, Callable[[], Recipe]] = {
        "nginx": contenders.nginx,
        "diogenes": lambda: _diogenes(stack),
        "litellm": lambda: _litellm(install=options.with_litellm),
    }
    recipes = []
    for name, make in makers.items():
        if name not in options.only:
            continue
        try:
            recipes.append(make())
        except Absent as absent:
            results.note(f"{name} left out: {absent}")
    return recipes


def _diogenes(stack: ExitStack) -> Recipe:
    # Imported here: the emulated account takes seconds to load, which `--only nginx` does not need.
    from tests.bench.diogenes import diogenes

    return stack.enter_context(diogenes())


def _litellm(*, install: bool) -> Recipe:
    if install:
        contenders.install_litellm()
    return contenders.litellm()


def _run_cold(options: argparse.Namespace, results: Results) -> None:
    from rehearsal.desk import DeskFailure
    from tests.bench.cold import TooSlow, cold_starts

    _tell(f"{options.cold_starts} cold starts")
    try:
        for values in cold_starts(options.cold_starts):
            results.add("diogenes", values)
    except (DeskFailure, TooSlow) as error:
        results.note(f"cold starts not finished: {error}")


def _run_flood(options: argparse.Namespace, results: Results) -> None:
    from rehearsal.desk import DeskFailure
    from tests.bench.flood import flooded

    _tell("a flood of bad keys")
    try:
        results.add("diogenes", flooded(5.0 if options.quick else 20.0))
    except (DeskFailure, RuntimeError, OSError) as error:
        results.note(f"the flood was not measured: {error}")


def _run_night(options: argparse.Namespace, results: Results) -> None:
    from tests.bench.night import imported

    _tell("the night watch's import")
    try:
        for _ in range(options.reps):
            results.add("diogenes", imported())
    except (RuntimeError, OSError) as error:
        results.note(f"the night watch's import was not measured: {error}")


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _save(results: Results) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(results.as_document(), indent=1), encoding="utf-8")
    sys.stdout.write(f"\nall values: {path.relative_to(CACHE.parents[1])}\n")


if __name__ == "__main__":
    sys.exit(main())
