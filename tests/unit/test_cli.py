"""What the commands say when they cannot begin."""

from __future__ import annotations

import os

import pytest

from control_plane.cli import main


def test_a_machine_without_a_region_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    assert main(["key", "create", "--email", "ann@example.com", "--name", "first"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "region" in line


def test_odd_settings_are_told_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIOGENES_PORT", "many")
    assert main(["serve"]) == 2
    assert "DIOGENES_PORT" in capsys.readouterr().err
