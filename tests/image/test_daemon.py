"""Where no Docker daemon runs: one of our own, or a reason why not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.image.daemon import NoDaemon, docker_host


@pytest.fixture(autouse=True)
def no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which none runs; the folder is the only one on its PATH."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return tmp_path


def test_without_a_daemon_and_without_dockerd_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="there is no dockerd to start"), docker_host(tmp_path / "data"):
        pass


def test_without_a_daemon_and_without_root_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NoDaemon, match="only root can start one"), docker_host(tmp_path / "data"):
        pass


def test_a_daemon_that_does_not_come_up_is_quoted(tmp_path: Path) -> None:
    dockerd = tmp_path / "dockerd"
    dockerd.write_text("#!/bin/sh\necho loading >&2\necho 'no cgroups here' >&2\nexit 1\n")
    dockerd.chmod(0o755)
    with pytest.raises(NoDaemon, match="dockerd does not come up: no cgroups here"), docker_host(tmp_path / "data"):
        pass


def test_what_a_daemon_leaves_mounted_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen of one that mounts its network namespace below its folder, and ends without letting go of it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    probe = tmp_path / "probe"
    probe.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", probe], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    subprocess.run(["umount", probe], check=True)
    dockerd = tmp_path / "dockerd"
    # Arguments: --host ADDRESS --data-root FOLDER --exec-root FOLDER …
    dockerd.write_text('#!/bin/sh\nmkdir -p "$6/netns" && mount -t tmpfs none "$6/netns"\necho "$6" >&2\nexit 1\n')
    dockerd.chmod(0o755)

    with pytest.raises(NoDaemon, match="dockerd does not come up") as seen, docker_host(tmp_path / "data"):
        pass

    place = str(seen.value).rpartition(" ")[2]
    assert place not in Path("/proc/self/mounts").read_text()
    assert not Path(place).parent.exists()
