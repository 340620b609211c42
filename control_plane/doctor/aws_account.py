"""Account over AWS, by whatever credentials the SDK finds. Reads only; what is ours is found by its tag."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from control_plane import schema
from control_plane.aws import AwsCloud
from control_plane.doctor.ports import CannotLook, Denied, Fleet, House, Machine, NoCredentials
from control_plane.dynamo import DynamoFront, DynamoModels, DynamoNodes, DynamoWishes
from control_plane.errors import Unavailable
from control_plane.stage import AwsStage, StageNames

HF_TOKEN_PARAMETER = "hf-token"  # noqa: S105 - its name, below the namespace

_CONFIG = AioConfig(connect_timeout=3, read_timeout=8, retries={"mode": "standard", "total_max_attempts": 2})
_GLOBAL = "us-east-1"  # where CloudFront's resources are listed, and where every account may ask for the regions

# What IAM calls a service that the SDK calls otherwise.
_IAM_PREFIX = {
    "elbv2": "elasticloadbalancing",
    "resourcegroupstaggingapi": "tag",
    "service-quotas": "servicequotas",
}

_NOT_ALLOWED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")
_STRANGER = (
    *("AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "InvalidSignatureException"),
    *("MissingAuthenticationToken", "SignatureDoesNotMatch", "UnrecognizedClientException"),
)
_NOBODY = (
    *(CredentialRetrievalError, NoAuthTokenError, NoCredentialsError, PartialCredentialsError),
    *(ProfileNotFound, SSOError, TokenRetrievalError),
)
SIGN_IN = "aws sso login, or aws configure; then: aws sts get-caller-identity"


@asynccontextmanager
async def open_account(namespace: str, region: str) -> AsyncIterator[AwsAccount]:
    """The account; its clients are opened when they are needed."""
    async with AsyncExitStack() as stack:
        yield AwsAccount(stack, namespace=namespace, region=region)


class AwsAccount:
    """Account over AWS."""

    def __init__(self, stack: AsyncExitStack, *, namespace: str, region: str) -> None:
        self._session: aioboto3.Session | None = None
        self._stack = stack
        self._namespace = namespace
        self._region = region
        # Any: for most of these services no types are installed, and each is asked one or two questions.
        self._clients: dict[tuple[str, str], Any] = {}
        self._opening = asyncio.Lock()

    # -- before anything is deployed -----------------------------------------------------------------------------

    async def identity(self) -> str:
        with _translated("sts"):
            sts = await self._client("sts")
            return str((await sts.get_caller_identity())["Arn"])

    async def region_enabled(self) -> bool:
        with _translated("ec2"):
            ec2 = await self._client("ec2", _GLOBAL)
            try:
                told = await ec2.describe_regions(RegionNames=[self._region], AllRegions=True)
            except ClientError as error:
                if error.response["Error"]["Code"] == "InvalidParameterValue":
                    return False  # there is no such region at all
                raise
        return any(found["OptInStatus"] != "not-opted-in" for found in told["Regions"])

    async def quota(self, code: str, service: str = "ec2") -> float:
        question = {"ServiceCode": service, "QuotaCode": code}
        with _translated("service-quotas"):
            quotas = await self._client("service-quotas")
            try:
                told = await quotas.get_service_quota(**question)
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchResourceException":
                    raise
                told = await quotas.get_aws_default_service_quota(**question)  # it was never changed
            return float(told["Quota"]["Value"])

    async def zones(self) -> Mapping[str, str]:
        with _translated("ec2"):
            ec2 = await self._client("ec2")
            told = await ec2.describe_availability_zones()
        return {
            zone["ZoneName"]: zone["ZoneId"]
            for zone in told["AvailabilityZones"]
            if zone["State"] == "available" and zone.get("OptInStatus", "opt-in-not-required") == "opt-in-not-required"
        }

    async def offerings(self, instance_types: Sequence[str]) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {name: [] for name in instance_types}
        question = {
            "LocationType": "availability-zone",
            "Filters": [{"Name": "instance-type", "Values": list(instance_types)}],
        }
        with _translated("ec2"):
            ec2 = await self._client("ec2")
            async for page in ec2.get_paginator("describe_instance_type_offerings").paginate(**question):
                for offering in page["InstanceTypeOfferings"]:
                    found[offering["InstanceType"]].append(offering["Location"])
        return {name: sorted(zones) for name, zones in found.items()}

    # -- after that ----------------------------------------------------------------------------------------------

    async def hub_token(self) -> str | None:
        with _translated("ssm"):
            ssm = await self._client("ssm")
            try:
                told = await ssm.get_parameter(Name=f"/{self._namespace}/{HF_TOKEN_PARAMETER}", WithDecryption=True)
            except ClientError as error:
                if error.response["Error"]["Code"] == "ParameterNotFound":
                    return None
                raise
        return str(told["Parameter"]["Value"])

    async def tables(self) -> frozenset[str]:
        there = await asyncio.gather(*map(self._has_table, schema.TABLES))
        return frozenset(table.name for table, found in zip(schema.TABLES, there, strict=True) if found)

    async def _has_table(self, table: schema.Table) -> bool:
        with _translated("dynamodb"):
            dynamodb = await self._client("dynamodb")
            try:
                await dynamodb.describe_table(TableName=table.full_name(self._namespace))
            except ClientError as error:
                if error.response["Error"]["Code"] == "ResourceNotFoundException":
                    return False
                raise
        return True

    async def fleet(self) -> Fleet:
        # Machines before rows: a row that appears in between is no orphan.
        machines = await self._machines()
        dynamodb = await self._client("dynamodb")
        with _translated("autoscaling"):
            groups = await AwsCloud(await self._client("autoscaling"), self._namespace).groups()
        with _translated("dynamodb"):
            return Fleet(
                machines=machines,
                nodes=await DynamoNodes(dynamodb, self._namespace).list(),
                groups=groups,
                rows=await DynamoModels(dynamodb, self._namespace).list(),
                wishes=await DynamoWishes(dynamodb, self._namespace).list(),
            )

    async def _machines(self) -> Sequence[Machine]:
        filters = [
            {"Name": f"tag:{schema.TAG}", "Values": [self._namespace]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
        with _translated("ec2"):
            ec2 = await self._client("ec2")
            pages = [page async for page in ec2.get_paginator("describe_instances").paginate(Filters=filters)]
        return [
            Machine(told["InstanceId"], told["InstanceType"], told["LaunchTime"].timestamp())
            for page in pages
            for reservation in page["Reservations"]
            for told in reservation["Instances"]
        ]

    async def house(self) -> House | None:
        ours = await self._ours(self._region)
        service = next((arn for arn in ours if ":service/" in arn), None)
        balancer = next((arn for arn in ours if ":loadbalancer/app/" in arn), None)
        if service is None or balancer is None:
            return None
        cluster, name = service.split("/")[-2:]
        with _translated("elbv2"):
            balancing = await self._client("elbv2")
            listeners = (await balancing.describe_listeners(LoadBalancerArn=balancer))["Listeners"]
            groups = (await balancing.describe_target_groups(LoadBalancerArn=balancer))["TargetGroups"]
        kinds = {group["TargetType"]: group["TargetGroupArn"] for group in groups}
        with _translated("ecs"):
            ecs = await self._client("ecs")
            services = (await ecs.describe_services(cluster=cluster, services=[name]))["services"]
        if not listeners or not services or "ip" not in kinds:
            return None
        names = StageNames(cluster, name, listeners[0]["ListenerArn"], kinds["ip"], kinds.get("lambda", ""))
        with _translated("elbv2"):
            stage = await AwsStage(ecs, balancing, names).look()
        with _translated("dynamodb"):
            front = await DynamoFront(await self._client("dynamodb"), self._namespace).read()
        events = services[0].get("events", [])
        return House(front, stage, services[0]["runningCount"], events[0]["message"] if events else "")

    async def site_domain(self) -> str | None:
        for arn in await self._ours(_GLOBAL):
            if ":distribution/" in arn:
                with _translated("cloudfront"):
                    cloudfront = await self._client("cloudfront", _GLOBAL)
                    told = await cloudfront.get_distribution(Id=arn.rpartition("/")[2])
                return str(told["Distribution"]["DomainName"])
        return None

    async def _ours(self, region: str) -> Sequence[str]:
        """The ARN of everything in a region that carries our tag."""
        with _translated("resourcegroupstaggingapi"):
            tags = await self._client("resourcegroupstaggingapi", region)
            pages = tags.get_paginator("get_resources").paginate(
                TagFilters=[{"Key": schema.TAG, "Values": [self._namespace]}]
            )
            return [told["ResourceARN"] async for page in pages for told in page["ResourceTagMappingList"]]

    async def _client(self, service: str, region: str | None = None) -> Any:
        key = (service, region or self._region)
        async with self._opening:
            if key not in self._clients:
                with _translated(service):
                    self._session = self._session or aioboto3.Session()  # looks for the profile, which may not be there
                    opened = self._session.client(service, region_name=key[1], config=_CONFIG)
                    self._clients[key] = await self._stack.enter_async_context(opened)
        return self._clients[key]


@contextmanager
def _translated(service: str) -> Iterator[None]:
    try:
        yield
    except ParamValidationError:
        raise  # a mistake of ours, not AWS's
    except ClientError as error:
        raise _refused(service, error) from error
    except Unavailable as error:  # what the control plane's own adapters make of it
        if isinstance(error.__cause__, ClientError):
            raise _refused(service, error.__cause__) from error
        raise CannotLook(str(error)) from error
    except _NOBODY as error:
        raise NoCredentials(f"no usable AWS credentials here ({error})", SIGN_IN) from error
    except (BotoCoreError, aiohttp.ClientError, OSError) as error:
        raise CannotLook(
            f"AWS ({service}) did not answer: {type(error).__name__}", "look at the network, then run it again"
        ) from error


def _refused(service: str, error: ClientError) -> CannotLook:
    told = error.response["Error"]
    code = told.get("Code", "")
    if code in _NOT_ALLOWED:
        return Denied(f"{_IAM_PREFIX.get(service, service)}:{error.operation_name}")
    if code in _STRANGER:
        return NoCredentials(f"AWS does not take these credentials ({code})", SIGN_IN)
    return CannotLook(f"{service} refused {error.operation_name}: {code}: {told.get('Message', '')}")
