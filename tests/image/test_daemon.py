"""Where no Docker daemon runs: one of our own, or a reason why not."""

from __future__ import annotations

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
