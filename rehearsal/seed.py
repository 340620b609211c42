"""What `pulumi up` makes, as far as the rehearsal needs it: tables, network, groups, rows of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import yaml

from control_plane.model import Model, parse_catalog, slug
from control_plane.schema import GROUP_MAX_SIZE, MARKET_TAG, MODEL_TAG, MODELS, TABLES, TAG, Table, group_name
from gpu_node.protocol import to_attributes

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client

STACK = Path(__file__).parents[1] / "Pulumi.prod.yaml"
ZONES = ("us-east-1a", "us-east-1b")


def models_of_stack(path: Path = STACK) -> Sequence[Mapping[str, Any]]:
    """The models as the stack's configuration has them. Raises KeyError when it has none."""
    config: Mapping[str, Any] = yaml.safe_load(path.read_text())["config"]
    models: Sequence[Mapping[str, Any]] = config["diogenes:models"]
    return models


@dataclass(frozen=True)
class Seed:
    """Fills an empty account over its API. Raises model.InvalidModel for models that Pulumi would refuse."""

    namespace: str
    session: boto3.Session
    endpoint: str

    def sow(self, configs: Sequence[Mapping[str, Any]]) -> None:
        models = parse_catalog(configs)
        dynamodb = self.session.client("dynamodb", endpoint_url=self.endpoint)
        ec2 = self.session.client("ec2", endpoint_url=self.endpoint)
        autoscaling = self.session.client("autoscaling", endpoint_url=self.endpoint)
        for table in TABLES:
            self._make_table(dynamodb, table)
        for model in models:
            self._write_model(dynamodb, model)
        subnets = self._make_network(ec2)
        for model in models:
            for market in model.market.ladder:
                self._make_group(autoscaling, ec2, model=model, market=market, subnets=subnets)
        for client in (dynamodb, ec2, autoscaling):
            client.close()

    def _make_table(self, dynamodb: DynamoDBClient, table: Table) -> None:
        name = table.full_name(self.namespace)
        keys = {table.hash_key: "HASH"} | ({table.range_key: "RANGE"} if table.range_key else {})
        dynamodb.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],  # type: ignore[typeddict-item]
            Tags=[{"Key": TAG, "Value": self.namespace}],
        )
        if table.ttl:
            ttl = {"Enabled": True, "AttributeName": table.ttl}
            dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)  # type: ignore[arg-type]

    def _write_model(self, dynamodb: DynamoDBClient, model: Model) -> None:
        row = {"name": model.name, "config": model.config}
        dynamodb.put_item(TableName=MODELS.full_name(self.namespace), Item=to_attributes(row))

    def _make_network(self, ec2: EC2Client) -> Sequence[str]:
        """One VPC with a subnet in each zone; returns the subnets."""
        vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        made = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{16 * index}.0/20", AvailabilityZone=zone)
            for index, zone in enumerate(ZONES)
        ]
        return [answer["Subnet"]["SubnetId"] for answer in made]

    def _make_group(
        self, autoscaling: AutoScalingClient, ec2: EC2Client, *, model: Model, market: str, subnets: Sequence[str]
    ) -> None:
        name = group_name(self.namespace, slug(model.name), market)
        ec2.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": model.instance_types[0]},  # type: ignore[typeddict-item]
        )
        tags = {TAG: self.namespace, MODEL_TAG: model.name, MARKET_TAG: market}
        autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=GROUP_MAX_SIZE,
            VPCZoneIdentifier=",".join(subnets),
            MixedInstancesPolicy={
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {"LaunchTemplateName": name, "Version": "$Latest"},
                    "Overrides": [{"InstanceType": kind} for kind in model.instance_types],
                },
                "InstancesDistribution": {
                    "OnDemandBaseCapacity": 0,
                    "OnDemandPercentageAboveBaseCapacity": 0 if market == "spot" else 100,
                },
            },
            Tags=[
                {
                    "Key": key,
                    "Value": value,
                    "PropagateAtLaunch": True,
                    "ResourceId": name,
                    "ResourceType": "auto-scaling-group",
                }
                for key, value in tags.items()
            ],
        )
        processes = ["AZRebalance", "ReplaceUnhealthy"]
        autoscaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=processes)
