"""How the engine is started once it is there: as a container. What is installed has `test_engine_install`."""

from __future__ import annotations

from pathlib import Path

from gpu_node.installation import container_command


def test_a_container_sees_the_weights_and_the_gpus_and_no_secret_is_on_its_command_line() -> None:
    environment = {
        "HF_TOKEN": "hf_secret",
        "VLLM_CACHE_ROOT": "/c",
        "PATH": "/bin",
        "AWS_REGION": "eu-west-1",
        "X": "1",
    }
    words = container_command("vllm:1", ["serve", "x"], environment, home=Path("/data"), user=(7, 8))
    line = " ".join(words)
    assert "hf_secret" not in line
    assert [words[place + 1] for place, word in enumerate(words) if word == "--env"] == [
        *("HOME=/data", "USER=diogenes", "AWS_REGION", "HF_TOKEN", "VLLM_CACHE_ROOT")
    ]
    assert words[-5:] == ["--entrypoint", "vllm", "vllm:1", "serve", "x"]
    assert "--volume /data:/data" in line
    assert "--user 7:8" in line
    assert "--gpus all" in line
    assert not [word for word in words if "docker.sock" in word or word == "--privileged"]
