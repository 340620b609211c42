"""What a node boots with is small, plain, and understood by cloud-init, by the shell and by systemd."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from gpu_node import package, user_data
from gpu_node.agent import STOP_GRACE_S
from gpu_node.package import HOME, SCRIPTS
from gpu_node.user_data import Boot, render
from tests.gpu_node.machine import SETTINGS, TOKEN_PARAMETER, parsed

CACHE = Path(__file__).parents[2] / ".cache/cloud-init"
SCHEMA = "schema-cloud-config-v1.json"
BOOT = Boot(SETTINGS, "eu-west-1", "nodes-1234567", package.build(), TOKEN_PARAMETER)
UNIT = HOME / "diogenes-node.service"


@pytest.fixture(scope="module")
def schema() -> Any:
    """Cloud-init's own, out of Debian's package; kept in .cache."""
    if not (CACHE / SCHEMA).exists():
        _fetch_schema()
    return json.loads((CACHE / SCHEMA).read_text())


def _fetch_schema() -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        pytest.skip(f"no schema of cloud-init: put {SCHEMA} into {CACHE}")
    CACHE.mkdir(parents=True, exist_ok=True)
    got = subprocess.run(["apt-get", "download", "cloud-init"], cwd=CACHE, capture_output=True, text=True, check=False)
    archives = sorted(CACHE.glob("cloud-init_*.deb"))
    if got.returncode or not archives:
        pytest.skip(f"no schema of cloud-init: `apt-get download cloud-init` says: {got.stderr.strip()}")
    subprocess.run(["dpkg", "-x", archives[-1], CACHE / "package"], check=True)
    (found,) = (CACHE / "package").rglob(SCHEMA)
    shutil.copy(found, CACHE / SCHEMA)
    shutil.rmtree(CACHE / "package")


def problems(schema: Any, config: Any) -> list[str]:
    found: Iterator[jsonschema.ValidationError] = jsonschema.Draft4Validator(schema).iter_errors(config)
    return [error.message for error in found]


def test_cloud_init_accepts_it(schema: Any) -> None:
    assert problems(schema, parsed(render(BOOT))) == []


def test_the_schema_would_tell(schema: Any) -> None:
    config = parsed(render(BOOT))
    config["write_files"][0]["colour"] = "red"
    config["runcmd"] = "start"
    assert len(problems(schema, config)) == 2


def test_it_is_small() -> None:
    assert len(render(BOOT)) < 4096


def test_it_arms_the_dead_man_at_every_boot_and_does_not_wait_for_it() -> None:
    assert parsed(render(BOOT))["bootcmd"] == [
        ["systemd-run", "--no-block", "--on-active=20min", "--unit=diogenes-deadman", "systemctl", "poweroff"],
        ["systemd-run", "--no-block", "--on-active=1470min", "--unit=diogenes-lifetime", "systemctl", "poweroff"],
    ]


def test_the_last_resort_comes_after_the_lifetime_that_the_agent_itself_keeps() -> None:
    boot = replace(BOOT, settings=replace(SETTINGS, max_lifetime_s=7230.0))
    assert parsed(render(boot))["bootcmd"][1][2] == "--on-active=151min"
    assert "DIOGENES_NODE_MAX_LIFETIME_S=7230.0" in parsed(render(boot))["write_files"][0]["content"]


def test_two_nodes_of_a_model_boot_with_the_same() -> None:
    assert render(BOOT) == render(replace(BOOT, package=package.build()))


@pytest.mark.parametrize("word", ["a b", "$(reboot)", "a\nHF_TOKEN=x", 'a"b', "a'b", "a;b", "", "ä"])
def test_a_value_that_is_more_than_a_word_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        render(replace(BOOT, bucket=word))
    with pytest.raises(ValueError, match="cannot be"):
        render(replace(BOOT, hf_token_parameter=f"/{word} "))


def test_the_scripts_are_sound(tmp_path: Path) -> None:
    start = parsed(render(BOOT))["write_files"][1]
    (tmp_path / "start.sh").write_text(start["content"])
    scripts = [tmp_path / "start.sh", *(HOME / name for name in SCRIPTS)]
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, "--severity=style", *scripts], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# -- the unit ------------------------------------------------------------------------------------------------------


@pytest.fixture
def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(UNIT)
    return parser


def test_the_end_of_the_agent_is_the_end_of_the_machine(unit: configparser.RawConfigParser) -> None:
    assert (unit["Unit"]["SuccessAction"], unit["Unit"]["FailureAction"]) == ("poweroff", "poweroff")
    assert unit["Service"]["Restart"] == "no"


def test_the_agent_gets_the_time_that_it_gives_its_engine(unit: configparser.RawConfigParser) -> None:
    assert unit["Service"]["KillMode"] == "mixed"
    assert float(unit["Service"]["TimeoutStopSec"]) > 2 * STOP_GRACE_S


def test_the_unit_reads_the_files_that_the_scripts_write() -> None:
    read = [line.split("=", 1)[1] for line in UNIT.read_text().splitlines() if line.startswith("EnvironmentFile")]
    written = [file["path"] for file in parsed(render(BOOT))["write_files"]]
    assert read[0] in written
    assert f"secrets={read[1].removeprefix('-')}" in (HOME / "bootstrap.sh").read_text().splitlines()


def test_the_unit_runs_where_the_package_is_unpacked(unit: configparser.RawConfigParser) -> None:
    service = unit["Service"]
    assert service["WorkingDirectory"] == user_data.PROGRAM
    assert service["ExecStart"] == f"{user_data.PROGRAM}/venv/bin/python -m gpu_node"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine")
    program = tmp_path / "venv/bin/python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(user_data.PROGRAM, str(tmp_path)))
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, ours) == (0, []), done.stderr
