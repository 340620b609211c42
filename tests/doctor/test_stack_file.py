"""A stack's files, read without Pulumi."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.doctor.stack import NoStack, StackFile
from rehearsal.program import HOME

PROJECT = """
name: diogenes
config:
  zones: {type: integer, default: 3}
  models: {type: array}
"""


def write(folder: Path, stack: str) -> Path:
    (folder / "Pulumi.yaml").write_text(PROJECT)
    (folder / "Pulumi.dev.yaml").write_text(stack)
    return folder


def test_values_come_without_the_projects_name_and_with_defaults(tmp_path: Path) -> None:
    folder = write(tmp_path, "config: {aws:region: eu-west-1, diogenes:edge: public, other:edge: no}")
    file = StackFile.read(folder, "dev")
    assert (file.namespace, file.region) == ("diogenes-dev", "eu-west-1")
    assert dict(file.values) == {"zones": 3, "edge": "public"}


def test_a_secret_in_clear_is_told_from_one_that_is_encrypted(tmp_path: Path) -> None:
    clear = StackFile.read(write(tmp_path, "config: {diogenes:hfToken: hf_clear}"), "dev")
    assert clear.secrets_in_clear == ["hfToken"]
    assert "hf_clear" not in repr(clear)
    for value in ("{secure: v1:abc}", '""'):
        assert not StackFile.read(write(tmp_path, f"config: {{diogenes:hfToken: {value}}}"), "dev").secrets_in_clear


def test_an_empty_stack_is_read_as_one_without_values(tmp_path: Path) -> None:
    assert StackFile.read(write(tmp_path, ""), "dev").region is None


def test_a_stack_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoStack, match=r"Pulumi\.live\.yaml cannot be read") as raised:
        StackFile.read(write(tmp_path, ""), "live")
    assert raised.value.fix.startswith("pulumi stack init live")


def test_another_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoStack, match=r"Pulumi\.yaml cannot be read") as raised:
        StackFile.read(tmp_path, "dev")
    assert "--directory" in raised.value.fix


def test_a_file_that_is_not_yaml_says_where(tmp_path: Path) -> None:
    with pytest.raises(NoStack, match="is not YAML"):
        StackFile.read(write(tmp_path, "config: ["), "dev")


def test_the_projects_own_stack_can_be_read() -> None:
    file = StackFile.read(HOME, "prod")
    assert file.namespace == "diogenes-prod"
    assert file.values["models"]
