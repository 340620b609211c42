"""A machine becomes a node, or goes off: its user data and its scripts, run for real on a scratch machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from gpu_node.engine_settings import EngineKind, EngineSettings
from gpu_node.package import Package
from gpu_node.settings import NodeSettings
from tests.gpu_node.machine import SETTINGS, TOKEN_PARAMETER, Machine, Outcome

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"
AGENT = "diogenes-node.service"
DISK = "dlami-nvme.service"  # what the image mounts the instance's own disk by


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def environment(outcome: Outcome) -> dict[str, str]:
    lines = (outcome.root / "etc/diogenes/node.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def assert_runs(outcome: Outcome) -> None:
    assert outcome.status == 0, outcome.output
    assert not outcome.is_off
    start = outcome.calls.index(f"systemctl start {AGENT}")
    assert start < outcome.calls.index("systemctl stop diogenes-deadman.timer")


def assert_goes_off(outcome: Outcome) -> None:
    assert outcome.status != 0
    assert outcome.calls[-1] == "systemctl poweroff"
    assert "systemctl stop diogenes-deadman.timer" not in outcome.calls


def test_a_new_machine_starts_the_agent_and_then_nothing_waits_for_its_end(machine: Machine) -> None:
    outcome = machine.boot()
    assert_runs(outcome)
    program = outcome.root / "opt/diogenes"
    assert outcome.called("systemctl link") == [f"systemctl link {program}/diogenes-node.service"]
    assert (program / "gpu_node/agent.py").is_file()
    assert os.access(program / "venv/bin/python", os.X_OK)
    assert os.access(program / "engine.sh", os.X_OK)


def test_the_agent_reads_in_its_file_what_the_program_wrote(machine: Machine) -> None:
    given = environment(machine.boot(token=True))
    own = {name: value.replace(str(machine.root), "") for name, value in given.items()}
    assert NodeSettings.from_env(own) == SETTINGS
    assert own["AWS_REGION"] == "eu-west-1"


def test_the_dead_man_is_armed_before_anything_that_can_fail(machine: Machine) -> None:
    outcome = machine.boot()
    assert outcome.calls[1] == "systemd-run --on-active=20min --unit=diogenes-deadman systemctl poweroff"


def test_a_dead_man_that_is_armed_already_is_left_alone(machine: Machine) -> None:
    (machine.answers / "is-active").write_text("0")
    outcome = machine.boot()
    assert_runs(outcome)
    assert outcome.called("systemd-run") == []


def test_the_package_is_asked_for_again_while_it_cannot_be_had(machine: Machine) -> None:
    (machine.answers / "outages").write_text("1\n2\n3\n")
    outcome = machine.boot()
    assert_runs(outcome)
    assert outcome.called("sleep") == ["sleep 1", "sleep 2", "sleep 4"]


def test_a_machine_that_never_gets_the_package_goes_off(machine: Machine) -> None:
    (machine.answers / "package").unlink()
    outcome = machine.boot(Package(b"expected"))
    assert_goes_off(outcome)
    assert sum(int(pause.split()[1]) for pause in outcome.called("sleep")) < 5 * 60
    assert outcome.called("systemctl start") == []


def test_a_package_that_is_not_the_expected_one_is_not_unpacked(machine: Machine) -> None:
    outcome = machine.boot(Package(b"expected"))
    assert_goes_off(outcome)
    assert not (outcome.root / "opt/diogenes").exists()


def test_a_machine_whose_packages_cannot_be_installed_goes_off(machine: Machine) -> None:
    outcome = machine.boot(machine.put_package(**{"requirements.txt": b"./nowhere\n"}))
    assert_goes_off(outcome)
    assert f"systemctl start {AGENT}" not in outcome.calls


def test_a_machine_whose_agent_cannot_be_started_goes_off(machine: Machine) -> None:
    (machine.answers / f"start-{AGENT}").write_text("1")
    assert_goes_off(machine.boot())


def test_an_image_without_pythons_headers_gets_them(machine: Machine) -> None:
    (machine.answers / "python").write_text("1")
    outcome = machine.boot()
    assert_runs(outcome)
    assert any("python3-venv python3-dev" in call for call in outcome.called("apt-get"))


def test_an_image_that_has_them_asks_nobody(machine: Machine) -> None:
    assert machine.boot().called("apt-get") == []


@pytest.mark.parametrize("has_disk", [True, False])
def test_data_is_on_the_instances_own_disk_where_there_is_one(machine: Machine, has_disk: bool) -> None:
    (machine.answers / "mountpoint").write_text("0" if has_disk else "1")
    outcome = machine.boot()
    assert_runs(outcome)
    data = outcome.root / "var/lib/diogenes"
    assert data.is_dir()
    disk = outcome.root / "opt/dlami/nvme/diogenes"
    assert (data.resolve() == disk) is has_disk
    assert outcome.called("useradd") == [
        f"useradd --system --home-dir {data} --shell /usr/sbin/nologin diogenes",
    ]


def test_the_disk_is_looked_for_after_the_images_own_unit_mounted_it(machine: Machine) -> None:
    outcome = machine.boot()
    looked = outcome.called("mountpoint -q")[0]
    assert outcome.calls.index(f"systemctl start {DISK}") < outcome.calls.index(looked)


def test_an_image_without_that_unit_keeps_everything_on_the_volume(machine: Machine) -> None:
    (machine.answers / f"start-{DISK}").write_text("5")
    outcome = machine.boot()
    assert_runs(outcome)
    assert not (outcome.root / "var/lib/diogenes").is_symlink()


ROOT_DISK = "/dev/nvme0n1 Amazon Elastic Block Store\n"
OWN_DISKS = [f"/dev/nvme{number}n1 Amazon EC2 NVMe Instance Storage\n" for number in (1, 2, 3, 4)]


def on_own_disk(outcome: Outcome) -> bool:
    return (outcome.root / "var/lib/diogenes").resolve() == outcome.root / "opt/dlami/nvme/diogenes"


def test_a_disk_that_the_image_left_alone_is_formatted_and_mounted(machine: Machine) -> None:
    (machine.answers / "disks").write_text(ROOT_DISK + OWN_DISKS[0])
    outcome = machine.boot()
    assert_runs(outcome)
    assert outcome.called("mkfs") == ["mkfs.ext4 -q -E nodiscard /dev/nvme1n1"]
    assert outcome.called("mount -o") == [f"mount -o noatime /dev/nvme1n1 {outcome.root}/opt/dlami/nvme"]
    assert outcome.called("mdadm") == []
    assert on_own_disk(outcome)


def test_several_disks_become_one(machine: Machine) -> None:
    (machine.answers / "disks").write_text(ROOT_DISK + "".join(OWN_DISKS))
    outcome = machine.boot()
    assert_runs(outcome)
    names = " ".join(line.split()[0] for line in OWN_DISKS)
    assert outcome.called("mdadm") == [f"mdadm --create /dev/md0 --run --level 0 --raid-devices 4 {names}"]
    assert outcome.called("mkfs") == ["mkfs.ext4 -q -E nodiscard /dev/md0"]
    assert on_own_disk(outcome)


def test_disks_that_are_mounted_are_not_formatted(machine: Machine) -> None:
    (machine.answers / "disks").write_text("".join(OWN_DISKS))
    (machine.answers / "mountpoint").write_text("0")
    outcome = machine.boot()
    assert_runs(outcome)
    assert outcome.called("mkfs") == outcome.called("mdadm") == []
    assert on_own_disk(outcome)


@pytest.mark.parametrize(("disks", "broken"), [(1, "mkfs"), (4, "mkfs"), (4, "mdadm"), (0, "mkfs")])
def test_disks_that_cannot_be_used_cost_speed_and_no_node(machine: Machine, disks: int, broken: str) -> None:
    (machine.answers / "disks").write_text(ROOT_DISK + "".join(OWN_DISKS[:disks]))
    (machine.answers / broken).write_text("1")
    outcome = machine.boot()
    assert_runs(outcome)
    assert outcome.called("mount -o") == []
    assert "everything is kept on the volume" in outcome.output
    assert not (outcome.root / "var/lib/diogenes").is_symlink()


@pytest.mark.parametrize("kind", EngineKind)
def test_only_who_runs_containers_may_speak_to_docker(machine: Machine, kind: EngineKind) -> None:
    outcome = machine.boot(engine=EngineSettings(kind=kind))
    assert_runs(outcome)
    assert bool(outcome.called("usermod --append --groups docker diogenes")) is (kind is EngineKind.CONTAINER)


DOCKER = ("systemctl stop docker.socket docker.service containerd.service", "systemctl start docker.service")


def test_container_images_are_kept_on_the_instances_own_disk(machine: Machine) -> None:
    (machine.answers / "mountpoint").write_text("0")
    outcome = machine.boot(engine=EngineSettings(kind=EngineKind.CONTAINER))
    assert_runs(outcome)
    disk, data = f"{outcome.root}/opt/dlami/nvme", f"{outcome.root}/var/lib"
    bound = [f"mount --bind {disk}/{name} {data}/{name}" for name in ("docker", "containerd")]
    begin = outcome.calls.index(DOCKER[0])
    assert [*outcome.calls[begin : begin + 4]] == [DOCKER[0], *bound, DOCKER[1]]


@pytest.mark.parametrize(("answer", "value"), [("bind", "1"), ("start-docker.service", "1")])
def test_a_docker_that_cannot_have_the_disk_costs_speed_and_no_node(machine: Machine, answer: str, value: str) -> None:
    (machine.answers / "mountpoint").write_text("0")
    (machine.answers / answer).write_text(value)
    outcome = machine.boot(engine=EngineSettings(kind=EngineKind.CONTAINER))
    assert_runs(outcome)
    assert DOCKER[1] in outcome.calls
    assert "container images are kept on the volume" in outcome.output


def test_a_docker_that_cannot_be_stopped_whole_is_started_and_its_folders_stay(machine: Machine) -> None:
    (machine.answers / "mountpoint").write_text("0")
    (machine.answers / "stop-docker.socket").write_text("5")  # an image without it; the others are down
    outcome = machine.boot(engine=EngineSettings(kind=EngineKind.CONTAINER))
    assert_runs(outcome)
    assert outcome.calls.index(DOCKER[1]) > outcome.calls.index(DOCKER[0])
    assert outcome.called("mount --bind") == []
    assert "container images are kept on the volume" in outcome.output


def test_without_a_disk_or_a_container_docker_is_left_alone(machine: Machine) -> None:
    outcome = machine.boot(engine=EngineSettings(kind=EngineKind.CONTAINER))
    assert_runs(outcome)
    assert DOCKER[0] not in outcome.calls
    (machine.answers / "mountpoint").write_text("0")
    assert DOCKER[0] not in machine.boot().calls


# -- the agent's own packages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stamp", "installs"), [(hashlib.sha256(b"").hexdigest(), False), ("another", True)])
def test_an_image_that_has_the_agents_packages_installs_none(machine: Machine, stamp: str, installs: bool) -> None:
    baked = machine.root / "opt/diogenes-agent"
    (baked / "bin").mkdir(parents=True)
    (baked / ".installed").write_text(f"{stamp}\n")
    outcome = machine.boot()
    assert_runs(outcome)
    venv = outcome.root / "opt/diogenes/venv"
    assert (venv.resolve() == baked) is not installs
    assert bool(outcome.called("python3 -m venv")) is installs


# -- the Hugging Face token ----------------------------------------------------------------------------------------


def test_the_token_is_where_only_root_can_read_it_and_nowhere_else(machine: Machine) -> None:
    (machine.answers / "token").write_text(TOKEN)
    outcome = machine.boot(token=True)
    assert_runs(outcome)
    secrets = outcome.root / "run/diogenes/secrets.env"
    assert secrets.read_text() == f"HF_TOKEN={TOKEN}\n"
    assert secrets.stat().st_mode & 0o077 == 0
    assert any(f"--name {TOKEN_PARAMETER}" in call for call in outcome.called("aws ssm"))
    assert TOKEN not in outcome.output + "".join(outcome.calls)
    (machine.answers / "token").unlink()
    assert [path for path in machine.root.rglob("*") if path.is_file() and TOKEN in path.read_text("latin-1")] == [
        secrets
    ]


def test_without_a_token_nobody_asks_for_one(machine: Machine) -> None:
    outcome = machine.boot()
    assert outcome.called("aws ssm") == []
    assert not (outcome.root / "run/diogenes").exists()


def test_a_token_that_cannot_be_read_does_not_keep_the_node_from_starting(machine: Machine) -> None:
    outcome = machine.boot(token=True)
    assert_runs(outcome)
    assert len(outcome.called("aws ssm")) == 6
    assert "no Hugging Face token" in outcome.output
    assert not (outcome.root / "run/diogenes/secrets.env").exists()
