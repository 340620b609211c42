"""Which files are needed, by which road they come, and what the engine is told. Nothing here touches a disk."""

from __future__ import annotations

import hashlib
import json

import pytest

from gpu_node.weights import (
    RESERVE_BYTES,
    Manifest,
    Road,
    Source,
    WeightFile,
    needed,
    parallelism,
    pinned,
    road,
    shortfall,
    streamed,
    value_of,
)
from tests.gpu_node.fake_hub import COMMIT, weight_file

SERVE = ("serve", "org/tiny", "--served-model-name", "tiny", "--revision", "main", "-tp", "4")


def manifest(*paths: str) -> Manifest:
    return Manifest("org/tiny", COMMIT, tuple(WeightFile(path, 10) for path in paths))


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (["config.json", "model.safetensors", "README.md", ".gitattributes"], ["config.json", "model.safetensors"]),
        (["model-1.safetensors", "pytorch_model.bin", "original/a.pth"], ["model-1.safetensors"]),
        (["pytorch_model.bin", "config.json"], ["pytorch_model.bin", "config.json"]),
        (["consolidated.safetensors", "model.safetensors"], ["model.safetensors"]),
        (["consolidated.safetensors", "params.json"], ["consolidated.safetensors", "params.json"]),
        (
            ["model.gguf", "onnx/model.onnx", "modeling_x.py", "chat_template.jinja"],
            ["modeling_x.py", "chat_template.jinja"],
        ),
    ],
)
def test_the_weights_are_fetched_once_and_in_one_form(there: list[str], wanted: list[str]) -> None:
    assert [file.path for file in needed(WeightFile(path, 1) for path in there)] == wanted


def test_room_is_counted_for_what_is_missing_and_something_stays_free() -> None:
    files = manifest("a", "b").files
    assert shortfall(files, {}, RESERVE_BYTES + 20) == 0
    assert shortfall(files, {}, RESERVE_BYTES + 15) == 5
    assert shortfall(files, {"a": 10, "b": 5}, RESERVE_BYTES + 5) == 0
    assert shortfall(files, {"a": 10, "b": 10}, 0) == 0


@pytest.mark.parametrize(
    ("source", "mirrored", "arguments", "expected"),
    [
        (Source.HUB, manifest("m.safetensors"), SERVE, Road.FETCH),
        (Source.S3, None, SERVE, Road.FETCH),
        (Source.S3, manifest("m.safetensors"), SERVE, Road.STREAM),
        (Source.S3, manifest("m.bin"), SERVE, Road.COPY),
        (Source.S3, manifest("m.safetensors"), (*SERVE, "--load-format=fastsafetensors"), Road.COPY),
        (Source.S3, manifest("m.safetensors"), (*SERVE, "--tokenizer-mode", "mistral"), Road.COPY),
    ],
)
def test_the_road_is_told_by_configuration_mirror_and_arguments(
    source: Source, mirrored: Manifest | None, arguments: tuple[str, ...], expected: Road
) -> None:
    assert road(source, mirrored=mirrored, arguments=arguments) is expected


def test_the_engine_is_pinned_to_the_commit_that_was_fetched() -> None:
    assert pinned(SERVE, COMMIT) == [*SERVE[:4], "-tp", "4", "--revision", COMMIT]
    assert pinned(("serve", "x", "--revision=v1"), COMMIT) == ["serve", "x", "--revision", COMMIT]


def test_a_streaming_engine_is_given_the_mirror_and_a_share_of_the_memory() -> None:
    words = streamed(SERVE, "s3://files/weights/org--tiny/c", memory_bytes=100 * 10**9)
    assert words[:2] == ["serve", "s3://files/weights/org--tiny/c"]
    assert "--revision" not in words
    assert value_of(words, "--load-format") == "runai_streamer"
    told = json.loads(value_of(words, "--model-loader-extra-config") or "")
    assert told == {"concurrency": 32, "memory_limit": 40 * 10**9, "distributed": True}


@pytest.mark.parametrize("arguments", [("serve", "x"), (*SERVE, "--enforce-eager")])
def test_the_gpus_share_the_reading_only_where_there_are_several_and_graphs(arguments: tuple[str, ...]) -> None:
    told = json.loads(value_of(streamed(arguments, "s3://a", memory_bytes=0), "--model-loader-extra-config") or "")
    assert told == {"concurrency": 32}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serve", "x"], (1, 1)),
        (["serve", "x", "--tensor-parallel-size=8", "-pp", "2"], (8, 2)),
        (["serve", "x", "-tp", "many", "-pp"], (1, 1)),
        (["-tp", "2", "-tp", "4"], (4, 1)),
    ],
)
def test_parallelism_is_read_from_the_arguments(arguments: list[str], expected: tuple[int, int]) -> None:
    assert parallelism(arguments) == expected


def test_a_file_is_known_by_the_digest_that_the_hub_names() -> None:
    for body in (b"small", b"large" * 1000):
        file = weight_file("x", body)
        digest = file.digest()
        digest.update(body)
        assert file.matches(digest)
        digest.update(b"more")
        assert not file.matches(digest)
    assert WeightFile("x", 3).matches(hashlib.sha256(b"any"))


def test_a_manifest_is_read_back_as_it_was_written() -> None:
    written = Manifest("org/tiny", COMMIT, (weight_file("a/b.safetensors", b"x" * 2000), weight_file("c", b"y")))
    assert Manifest.from_json(written.to_json()) == written


OUTSIDE = '{"repository": "a", "commit": "b", "files": [{"path": "PATH", "size": 1}]}'


@pytest.mark.parametrize("body", ["", "{}", "[]", OUTSIDE.replace("PATH", "../x"), OUTSIDE.replace("PATH", "/etc/x")])
def test_what_is_no_manifest_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match=r"manifest|inside|Expecting"):
        Manifest.from_json(body.encode())
