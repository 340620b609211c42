"""What the program meets in an account that it did not make, and what stands in for everything but AWS."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN as PULUMI_UNKNOWN

from rehearsal.account import REGION
from tests.provider.invented import Foreign

AMI = "ami-0123456789abcdef0"
NEWER_AMI = "ami-0fedcba9876543210"


@dataclass
class Machine:
    """Where Pulumi runs, and AWS's own public parameters: what changes without the program."""

    sources: str = "as they were"  # what the image is built from
    ami: str = AMI

    def foreign(self) -> Foreign:
        return Foreign(
            # Building an image needs Docker; the image has its own tests.
            resources={"docker-build:index:Image": self._image},
            # moto knows AWS's parameters of a few other AMIs only, and lets nobody write below /aws.
            functions={"aws:ssm/getParameter:getParameter": self._parameter},
        )

    def _image(self, _name: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if any(isinstance(tag, Unknown) for tag in inputs["tags"]) or isinstance(inputs["tags"], Unknown):
            return {"digest": PULUMI_UNKNOWN, "ref": PULUMI_UNKNOWN}
        digest = f"sha256:{hashlib.sha256(self.sources.encode()).hexdigest()}"
        return {"digest": digest, "ref": f"{inputs['tags'][0]}@{digest}"}

    def _parameter(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        name = given["name"]
        return {"id": name, "name": name, "type": "String", "value": self.ami, "insecureValue": self.ami, "version": 1}


@dataclass(frozen=True)
class Clients:
    """Somebody at the account other than Pulumi."""

    url: str

    def __call__(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="rehearsal",
            aws_secret_access_key="rehearsal",
        )
