"""What a log line may show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_node.protocol import LOG_LINE_CHARS
from gpu_node.redaction import MASK, scrub

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    "secret",
    [
        "hf_abcdefghijkl",
        "AKIAABCDEFGHIJKLMNOP",
        "ASIAABCDEFGHIJKLMNOP",
        "dio-0123456789abcdef",
        "sk-proj-0123456789",
        "ghp_0123456789abcdef0123",
        "Bearer x.y.z",
        "Basic dXNlcjpwYXNz",
        JWT,
    ],
)
def test_no_secret_stays_in_a_log_line(secret: str) -> None:
    line = scrub(f"INFO using {secret} for this")
    assert secret.split()[-1] not in line
    assert line.startswith("INFO using")
    assert line.endswith("for this")


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("non-default args: {'api_key': ['k-one', 'k-two'], 'model': 'm'}", "k-two"),
        ("args --api-key abcdefghijklmnop --port 8000", "abcdefghijklmnop"),
        ("hf_token='abcdefgh1234', revision=None", "abcdefgh1234"),
        ('{"aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG"}', "wJalrXUtnFEMI/K7MDENG"),
        ("AWS_SESSION_TOKEN=IQoJb3JpZ2luX2VjEJr", "IQoJb3JpZ2luX2VjEJr"),
        ("password: hunter2", "hunter2"),
        ("authorization: Bearer abc.def", "abc.def"),
    ],
)
def test_what_is_called_a_secret_is_one(line: str, secret: str) -> None:
    assert secret not in scrub(line)
    assert MASK in scrub(line)


@pytest.mark.parametrize(
    "link",
    [
        "https://b.s3.eu-west-1.amazonaws.com/m/x.safetensors?X-Amz-Algorithm=AWS4&X-Amz-Signature=d00d",
        "https://cdn-lfs.hf.co/repos/ab/cd?Expires=1&Policy=d00d&Signature=d00d&Key-Pair-Id=d00d",
        "https://x.blob.core.windows.net/a?sv=1&sig=d00d",
        "s3://bucket/model?token=d00d",
    ],
)
def test_of_a_link_everything_that_signs_it_goes(link: str) -> None:
    line = scrub(f"Downloading {link} failed, trying again")
    assert line == f"Downloading {link.partition('?')[0]}?{MASK} failed, trying again"


def test_who_signs_in_by_link_is_not_shown() -> None:
    assert scrub("proxy http://ann:hunter2@proxy:3128 answers") == f"proxy http://{MASK}@proxy:3128 answers"


def test_a_value_known_to_be_a_secret_goes_wherever_it_stands() -> None:
    assert scrub("got 0x1234-odd-value, so", ["0x1234-odd-value", ""]) == f"got {MASK}, so"


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40), st.text())
def test_no_known_secret_survives_whatever_the_line_is(secret: str, around: str) -> None:
    if secret not in around + MASK and secret not in MASK:
        assert secret not in scrub(f"{around}{secret}{around}", [secret])


@pytest.mark.parametrize(
    "line",
    [
        "Received request chatcmpl-1: prompt: 'my secret'",
        "{'messages': [{'content': 'my'}]}",
        "prompt_token_ids=[1, 2]",
    ],
)
def test_nothing_of_a_request_stays_in_a_log_line(line: str) -> None:
    assert scrub(line) == "(a line about a request, left out)"


@pytest.mark.parametrize(
    "line",
    [
        "INFO Avg prompt throughput: 3.1 tokens/s, Avg generation throughput: 20.5 tokens/s, Running: 1 reqs",
        "GPU KV cache size: 31,648 tokens, Maximum concurrency for 8,192 tokens per request: 3.86x",
        "num_special_tokens: 3, hf_token=None, max_num_batched_tokens=2048",
        "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:02<00:02,  1.00it/s]",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB.",
        "Cannot access gated repo for url https://huggingface.co/x/y/resolve/main/config.json.",
        "vllm serve: error: unrecognized arguments: --no-such-flag",
    ],
)
def test_ordinary_lines_are_kept(line: str) -> None:
    assert scrub(line) == line


def test_no_line_is_longer_than_allowed() -> None:
    assert len(scrub("x" * 5000)) == LOG_LINE_CHARS
