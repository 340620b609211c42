"""What the engine compiled goes to the bucket and comes back; whatever breaks, a start goes on without."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_node.compile_cache import CacheKey, CacheUnusable, CompileCache
from tests.gpu_node.files import Files

KEY = CacheKey(
    "org/tiny", "NVIDIA A10G", "vllm 0.32.0", ("serve", "org/tiny", "--host", "10.0.0.1", "--max-model-len", "4096")
)
MANIFEST = f"{KEY.prefix}manifest"


def compiled(root: Path, name: str = "a1b2") -> None:
    """As an engine leaves it."""
    graph = root / "torch_compile_cache" / name / "rank_0_0" / "cache.bin"
    graph.parent.mkdir(parents=True, exist_ok=True)
    graph.write_bytes(b"compiled" * 1000)
    (root / "modelinfos").mkdir(exist_ok=True)
    (root / "modelinfos" / "list.json").write_text("{}")


def archive(files: Files) -> str:
    (key,) = [key for key in files.names() if key.endswith(".tar.gz")]
    return key


def saved(files: Files, root: Path) -> None:
    compiled(root)
    assert CompileCache(files.bucket(), KEY, root).save() > 0


def test_what_one_node_compiled_another_one_finds(files: Files, tmp_path: Path) -> None:
    saved(files, tmp_path / "one")
    other = tmp_path / "two"
    assert CompileCache(files.bucket(), KEY, other).restore() > 0
    assert (other / "torch_compile_cache/a1b2/rank_0_0/cache.bin").read_bytes() == b"compiled" * 1000
    assert [path.name for path in other.iterdir()] == ["torch_compile_cache"]


def test_a_cache_that_is_not_there_is_no_failure(files: Files, tmp_path: Path) -> None:
    cache = CompileCache(files.bucket(), KEY, tmp_path)
    assert (cache.restore(), cache.save()) == (0, 0)
    assert files.names() == []


def test_only_what_is_new_is_saved(files: Files, tmp_path: Path) -> None:
    saved(files, tmp_path / "one")
    cache = CompileCache(files.bucket(), KEY, tmp_path / "two")
    cache.restore()
    assert cache.save() == 0
    compiled(tmp_path / "two", "c3d4")
    assert cache.save() > 0
    assert cache.save() == 0
    third = CompileCache(files.bucket(), KEY, tmp_path / "three")
    third.restore()
    assert {path.name for path in (tmp_path / "three/torch_compile_cache").iterdir()} == {"a1b2", "c3d4"}


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, gpu="NVIDIA L4"),
        replace(KEY, engine="vllm 0.33.0"),
        replace(KEY, repository="org/other"),
        replace(KEY, arguments=(*KEY.arguments, "-tp", "2")),
        replace(KEY, arguments=(*KEY.arguments, "--dtype", "half")),
    ],
)
def test_another_gpu_engine_model_or_parallelism_has_a_cache_of_its_own(other: CacheKey) -> None:
    assert other.prefix != KEY.prefix


def test_the_nodes_address_and_name_do_not_matter_and_a_person_can_read_the_key() -> None:
    moved = ("serve", "org/tiny", "--host", "10.9.9.9", "--served-model-name", "x", "--max-model-len", "4096")
    assert replace(KEY, arguments=moved).prefix == KEY.prefix
    assert KEY.prefix.startswith("compile-cache/org--tiny/nvidia-a10g-tp1-pp1-")


def test_a_save_that_is_denied_leaves_the_cache_before_it(files: Files, tmp_path: Path) -> None:
    saved(files, tmp_path / "one")
    before = files.read(MANIFEST)
    compiled(tmp_path / "one", "c3d4")
    cut = CompileCache(files.bucket(refuse=lambda asked, _: asked == "PutObject"), KEY, tmp_path / "one")
    with pytest.raises(CacheUnusable, match="AccessDenied"):
        cut.save()
    assert files.read(MANIFEST) == before


def test_between_archive_and_manifest_nobody_sees_a_half(files: Files, tmp_path: Path) -> None:
    compiled(tmp_path / "one")
    denied = files.bucket(refuse=lambda asked, number: asked == "PutObject" and number == 2)
    cut = CompileCache(denied, KEY, tmp_path / "one")
    with pytest.raises(CacheUnusable):
        cut.save()
    assert archive(files)
    assert CompileCache(files.bucket(), KEY, tmp_path / "two").restore() == 0


def test_a_restore_that_is_denied_says_so(files: Files, tmp_path: Path) -> None:
    saved(files, tmp_path / "one")
    denied = files.bucket(refuse=lambda asked, _: asked == "GetObject")
    with pytest.raises(CacheUnusable, match="AccessDenied"):
        CompileCache(denied, KEY, tmp_path / "two").restore()


def damaged_archive(files: Files) -> None:
    body = files.read(archive(files))
    files.write(archive(files), body[:-1] + b"X")


def shortened_archive(files: Files) -> None:
    files.write(archive(files), files.read(archive(files))[:-10])


def no_archive(files: Files) -> None:
    files.client.delete_object(Bucket="nodes-1234567", Key=archive(files))


def unreadable_manifest(files: Files) -> None:
    files.write(MANIFEST, b"[]")


def enormous(files: Files) -> None:
    told = json.loads(files.read(MANIFEST))
    files.write(MANIFEST, json.dumps({**told, "size": 10**12}).encode())


def leading_outside(files: Files) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("../../outside")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"boo!"))
    name = f"{hashlib.sha256(packed.getvalue()).hexdigest()}.tar.gz"
    files.write(KEY.prefix + name, packed.getvalue())
    files.write(MANIFEST, json.dumps({"archive": name, "size": len(packed.getvalue())}).encode())


@pytest.mark.parametrize(
    "damage",
    [damaged_archive, shortened_archive, no_archive, unreadable_manifest, enormous, leading_outside],
)
def test_a_damaged_cache_is_not_used_and_what_was_compiled_here_stays(
    files: Files, tmp_path: Path, damage: Callable[[Files], None]
) -> None:
    saved(files, tmp_path / "one")
    damage(files)
    here = tmp_path / "two"
    compiled(here, "own")
    with pytest.raises(CacheUnusable, match="cannot be restored"):
        CompileCache(files.bucket(), KEY, here).restore()
    assert [path.name for path in (here / "torch_compile_cache").iterdir()] == ["own"]
    assert sorted(path.name for path in here.iterdir()) == ["modelinfos", "torch_compile_cache"]
    assert not (tmp_path / "outside").exists()


def test_a_cache_that_is_too_large_is_not_kept(files: Files, tmp_path: Path) -> None:
    compiled(tmp_path)
    with pytest.raises(CacheUnusable, match="too large"):
        CompileCache(files.bucket(), KEY, tmp_path, max_bytes=10).save()
    assert files.names() == []
