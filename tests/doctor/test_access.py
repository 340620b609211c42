"""Hugging Face's repositories, the region, and the redirect URI."""

from __future__ import annotations

import pytest

from control_plane.doctor.finding import Status
from control_plane.hub import Access
from tests.doctor.fakes import NAME, FakeAccount, FakeHub, Patient

CLIENT = {"googleClientId": "1234-abc.apps.googleusercontent.com", "keysOnly": False}


@pytest.mark.parametrize(
    ("access", "status", "words"),
    [
        (Access.READ, Status.OK, ""),
        (Access.GATED, Status.FAILURE, f"https://huggingface.co/{NAME}"),
        (Access.MISSING, Status.FAILURE, "https://huggingface.co/models?search=Qwen3-14B-AWQ"),
        (Access.UNREACHABLE, Status.WARNING, "run it again"),
    ],
)
async def test_each_repository_is_told_with_what_to_do(access: Access, status: Status, words: str) -> None:
    found = await Patient(hub=FakeHub({NAME: access})).found(f"hugging-face:{NAME}")
    assert found.status is status
    assert words in (found.fix or "")


async def test_a_region_that_is_not_enabled_is_a_failure() -> None:
    found = await Patient(FakeAccount(enabled=False)).found("region")
    assert found.status is Status.FAILURE
    assert found.fix is not None
    assert "--region-name us-east-1" in found.fix


async def test_nobody_who_signs_in_needs_no_redirect_uri() -> None:
    assert (await Patient().found("redirect-uri")).status is Status.OK


async def test_the_redirect_uri_is_told_to_the_letter() -> None:
    found = await Patient(values=CLIENT).found("redirect-uri:Google")
    assert found.status is Status.WARNING  # Google cannot be asked
    assert found.message.endswith(" https://d1.cloudfront.net/signin")
    assert found.fix is not None
    assert "console.cloud.google.com" in found.fix


async def test_before_a_deployment_the_redirect_uri_is_only_known_with_a_domain() -> None:
    own = {"domain": "llm.example.org", "certificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/1"}
    without = await Patient(FakeAccount(deployed=False), values=CLIENT).found("redirect-uri:Google")
    known = await Patient(FakeAccount(deployed=False), values={**CLIENT, **own}).found("redirect-uri:Google")
    assert "not known" in without.message
    assert "https://llm.example.org/signin" in known.message


async def test_every_issuer_has_a_line() -> None:
    others = [{"name": "Work", "issuer": "https://id.example.org", "clientId": "diogenes"}]
    found = await Patient(values={**CLIENT, "oidcProviders": others}).diagnosis()
    named = [finding.check for finding in found if finding.check.startswith("redirect-uri")]
    assert named == ["redirect-uri:Google", "redirect-uri:Work"]
