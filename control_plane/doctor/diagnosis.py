"""Which checks there are, and in which order they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from control_plane.deployment import SECRETS, Deployment, Edge, InvalidDeployment
from control_plane.doctor import access, capacity, deployed
from control_plane.doctor.examination import LIMIT_S, Check, examine
from control_plane.doctor.finding import Finding, Status, failure, ok, warning
from control_plane.doctor.ports import Account, NoCredentials, Outside
from control_plane.doctor.stack import Remedies, StackFile
from control_plane.geometry import ReadGeometry
from control_plane.ports import Clock


@dataclass(frozen=True)
class Doctor:
    """All checks of one stack. Without an account only those that need none."""

    file: StackFile
    outside: Outside
    region: str | None  # to ask in: the stack's, or the environment's, which a deployment would not take
    read_geometry: ReadGeometry
    clock: Clock
    limit_s: float = LIMIT_S  # of each check

    async def diagnosis(self) -> list[Finding]:
        """Who asks is settled first: without that, every other question to AWS fails for the same reason."""
        account, who = await self._who()
        deployment, told = await asyncio.to_thread(self._configuration)
        checks = []
        if deployment is not None:
            outside = replace(self.outside, account=account)
            checks.append(Check("hugging-face", partial(access.check_hub, outside, deployment.models)))
        if account is not None and self.region is not None:
            checks.append(Check("region", partial(access.check_region, account, self.region)))
            checks += self._capacity_checks(account, deployment)
            checks.append(Check("deployment", partial(self._deployment, account, deployment)))
        found = [*who, *told, *await examine(checks, limit_s=self.limit_s)]
        return found + (capacity.check_other_families(deployment.models) if deployment else [])

    async def _who(self) -> tuple[Account | None, list[Finding]]:
        account = self.outside.account
        if account is None:
            return None, []  # no region: the configuration's problems say so

        async def look() -> Sequence[Finding]:
            try:
                return await access.check_credentials(account)
            except NoCredentials as error:
                told = f"{error.why}; so nothing was asked of AWS"
                return [failure("credentials", told, error.fix or "aws sts get-caller-identity")]

        found = await examine([Check("credentials", look)], limit_s=self.limit_s)
        return (account if found[0].status is Status.OK else None), found

    def _configuration(self) -> tuple[Deployment | None, list[Finding]]:
        """Blocks while the hub is asked for what the fit check needs."""
        try:
            deployment = Deployment.parse(
                {name: value for name, value in self.file.values.items() if name not in SECRETS},
                project=self.file.project,
                stack=self.file.stack,
                region=self.file.region,
                read_geometry=self.read_geometry,
                in_clear=self.file.secrets_in_clear,
                github_secret=bool(self.file.values.get("githubClientSecret")),
            )
        except InvalidDeployment as error:
            return None, [failure("configuration", problem.what, problem.mend) for problem in error.found]
        names = ", ".join(model.name for model in deployment.models)
        sound = ok("configuration", f"it can be deployed to {deployment.region}: {names}")
        return deployment, [sound, *(warning("configuration", note) for note in deployment.notes)]

    def _capacity_checks(self, account: Account, deployment: Deployment | None) -> list[Check]:
        if deployment is None:
            return []
        models, region = deployment.models, deployment.region
        quotas = [
            Check(f"quota.{quota.market}", partial(capacity.check_quota, account, quota, models, region))
            for quota in capacity.QUOTAS
        ]
        offerings = partial(capacity.check_offerings, account, models, zones=deployment.zones)
        executions = partial(capacity.check_functions, account, region, counted=deployment.lambda_concurrency)
        return [*quotas, Check("quota.lambda", executions), Check("instance-types", offerings)]

    # -- what is deployed ------------------------------------------------------------------------------------------

    async def _deployment(self, account: Account, deployment: Deployment | None) -> Sequence[Finding]:
        there = await account.tables()
        tables = deployed.check_tables(there, self._remedies)
        if not there:
            redirect = access.check_redirect(deployment, deployment.domain) if deployment else []
            return [tables, *redirect]
        checks = [
            Check("control-plane", partial(self._house, account)),
            Check("models", partial(self._fleet, account, deployment)),
            Check("site", partial(self._site, account, deployment)),
        ]
        return [tables, *await examine(checks, limit_s=self.limit_s * 0.9)]  # in time to be told

    async def _house(self, account: Account) -> Sequence[Finding]:
        house = await account.house()
        return [deployed.check_house(house, self._remedies, now=self.clock())]

    async def _fleet(self, account: Account, deployment: Deployment | None) -> Sequence[Finding]:
        fleet, now = await account.fleet(), self.clock()
        configured = deployment.models if deployment else ()
        return [
            *deployed.check_models(fleet, configured, self._remedies, now=now),
            *deployed.check_orphans(fleet, self._remedies, now=now),
        ]

    async def _site(self, account: Account, deployment: Deployment | None) -> Sequence[Finding]:
        found = await account.site_domain()
        if found is None:
            return [failure("site", "there is no CloudFront distribution of ours", self._remedies.up)]
        site = api = found
        if deployment is not None and deployment.domain:
            api = deployment.domain
            site = api if deployment.edge is Edge.CLOUDFRONT else found  # edge public: the domain is the API's alone
        answers = await deployed.check_site(self.outside.web, site, api, remedies=self._remedies)
        return [*answers, *(access.check_redirect(deployment, site) if deployment else [])]

    @property
    def _remedies(self) -> Remedies:
        return Remedies(self.file.namespace, self.file.stack, self.region or "")
