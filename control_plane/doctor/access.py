"""Who may do what: AWS's credentials and region, Hugging Face's repositories, the sign-in provider's redirects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import assert_never

from control_plane.deployment import Deployment
from control_plane.doctor.finding import Finding, failure, ok, warning
from control_plane.doctor.ports import Account, CannotLook, Outside
from control_plane.hub import Access, Reading
from control_plane.model import Model
from control_plane.schema import CALLBACK_PATH


async def check_credentials(account: Account) -> list[Finding]:
    """Raises NoCredentials."""
    return [ok("credentials", f"you are {await account.identity()}")]


async def check_region(account: Account, region: str) -> list[Finding]:
    if await account.region_enabled():
        return [ok("region", f"{region} is enabled")]
    return [
        failure(
            "region",
            f"{region} is no region that this account may use",
            f"aws account enable-region --region-name {region}, or another: pulumi config set aws:region us-east-1",
        )
    ]


async def check_hub(outside: Outside, models: Sequence[Model]) -> list[Finding]:
    """Whether each repository can be read with the token that the nodes have, or will have."""
    note = ""
    token = outside.hub_token
    if token is None and outside.account is not None:
        try:
            token = await outside.account.hub_token()
        except CannotLook as error:
            note = f" (the deployed token could not be used: {error.why})"
    repositories = dict.fromkeys((model.repository, model.revision) for model in models)
    readings = [asyncio.to_thread(outside.ask_hub, name, revision, token) for name, revision in repositories]
    answers = await asyncio.gather(*readings)
    return [_read(name, reading, note) for (name, _), reading in zip(repositories, answers, strict=True)]


def _read(repository: str, reading: Reading, note: str) -> Finding:
    check = f"hugging-face:{repository}"
    told = reading.told.removeprefix(f"{repository}: ")  # the check's name says it
    match reading.access:
        case Access.READ:
            return ok(check, told)
        case Access.GATED:
            fix = f"accept its terms at https://huggingface.co/{repository}, then: pulumi config set --secret hfToken"
            return failure(check, f"{told}{note}", fix)
        case Access.MISSING:
            fix = f"look for it at https://huggingface.co/models?search={repository.rpartition('/')[2]}"
            return failure(check, f"{told}{note}", f"{fix}; if it is private: pulumi config set --secret hfToken")
        case Access.UNREACHABLE:
            return warning(check, f"not checked: {told}", "run it again where the hub can be reached")
        case _:
            assert_never(reading.access)


def check_redirect(deployment: Deployment, domain: str | None) -> list[Finding]:
    """What the sign-in provider must have been told. It cannot be asked, so this says what to compare."""
    providers = [("Google", "console.cloud.google.com > APIs & Services > Credentials > your OAuth client")]
    if not deployment.google_client_id:
        providers = []
    if deployment.github_client_id:
        providers.append(("GitHub", "github.com > Settings > Developer settings > OAuth Apps > your app"))
    providers += [(provider.name, f"{provider.issuer} > your client") for provider in deployment.oidc_providers]
    if not providers:
        return [ok("redirect-uri", "nobody signs in by browser (keysOnly), so no redirect URI is needed")]
    if domain is None:
        return [
            warning(
                f"redirect-uri:{name}",
                "not known before the first deployment: CloudFront chooses the domain",
                f"pulumi up, then put the output googleRedirectUri into {where}",
            )
            for name, where in providers
        ]
    return [
        warning(
            f"redirect-uri:{name}",
            f"cannot be asked for, so compare: {name} must list exactly https://{domain}{CALLBACK_PATH}",
            where,
        )
        for name, where in providers
    ]
