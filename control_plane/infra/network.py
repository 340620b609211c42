"""Where everything runs: one VPC with public subnets and no NAT, and who may speak to whom."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from control_plane.schema import EXCLUDED_ZONE_IDS, FRONT_ZONES, TAG

CLOUDFRONT_PREFIX_LIST = "com.amazonaws.global.cloudfront.origin-facing"

_VPC_CIDR = "10.40.0.0/16"
_ANYWHERE = "0.0.0.0/0"


class Network(pulumi.ComponentResource):
    """A VPC, one public subnet a zone, and three security groups that let requests through in one direction only.

    Public subnets instead of a NAT gateway: nothing that runs all the time, and nothing that can be reached, since no
    group admits the world. With ``internet_facing`` the load balancer alone does, on port 443.
    """

    def __init__(
        self,
        name: str,
        *,
        namespace: str,
        region: str,
        zones: int,
        internet_facing: bool,
        control_plane_port: int,
        engine_port: int,
        metrics_port: int,
        metrics_from: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """``metrics_from``: a security group, or a private range, that may read the control plane's metrics."""
        ranges = zones_of(region, zones)
        super().__init__("diogenes:control_plane:Network", name, {}, opts)
        self._name = name
        self._tags = {TAG: namespace}
        self._child = pulumi.ResourceOptions(parent=self)
        self._paths: list[pulumi.Resource] = []  # what traffic needs, and nothing refers to
        self._vpc = self._make_vpc(namespace, region)
        subnets = self._make_subnets(namespace, ranges)
        self.gateway = self._make_gateway(namespace, region, subnets)
        load_balancer = self._group(namespace, "load-balancer", "What answers the world's requests")
        control_plane = self._group(namespace, "control-plane", "The control plane's task")
        nodes = self._group(namespace, "nodes", "GPU nodes")
        if internet_facing:
            self._admit("world-to-load-balancer", load_balancer, 443, cidr=_ANYWHERE)
        else:
            # One rule only: the list counts as many rules as it has entries, and nearly fills a group.
            cloudfront = aws.ec2.get_managed_prefix_list_output(name=CLOUDFRONT_PREFIX_LIST)
            self._admit("cloudfront-to-load-balancer", load_balancer, 80, prefix_list=cloudfront.id)
        self._connect("load-balancer-to-control-plane", load_balancer, control_plane, control_plane_port)
        self._connect("control-plane-to-nodes", control_plane, nodes, engine_port)
        if metrics_from:
            source = {"group" if metrics_from.startswith("sg-") else "cidr": metrics_from}
            self._admit("metrics", control_plane, metrics_port, **source)
        # AWS's own interfaces, the sign-in providers' keys, Hugging Face, the package registry: all of it is HTTPS.
        self._release("control-plane-to-https", control_plane, 443, cidr=_ANYWHERE)
        self._release("nodes-to-https", nodes, 443, cidr=_ANYWHERE)
        self._release("nodes-to-http", nodes, 80, cidr=_ANYWHERE)  # the system's packages, which are signed instead

        self.vpc_id = self._vpc.id
        # Whatever runs in here is made after these, and so gone before them: what drains still needs its way out.
        self.ready = [self.gateway, *self._paths]
        self.subnet_ids = [subnet.id for subnet in subnets.values()]
        self.front_subnet_ids = self.subnet_ids[:FRONT_ZONES]
        self.load_balancer_security_group_id = load_balancer.id
        self.control_plane_security_group_id = control_plane.id
        self.node_security_group_id = nodes.id
        self.register_outputs({"vpcId": self.vpc_id, "subnetIds": self.subnet_ids})

    def _make_vpc(self, namespace: str, region: str) -> aws.ec2.Vpc:
        vpc = aws.ec2.Vpc(
            f"{self._name}-vpc",
            cidr_block=_VPC_CIDR,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={**self._tags, "Name": namespace},
            opts=self._child,
        )
        # Without rules: what is put into no group of ours reaches nothing and is reached by nothing.
        aws.ec2.DefaultSecurityGroup(
            f"{self._name}-default-group", vpc_id=vpc.id, tags={**self._tags, "Name": "unused"}, opts=self._child
        )
        return vpc

    def _make_subnets(self, namespace: str, zones: Mapping[str, str]) -> Mapping[str, aws.ec2.Subnet]:
        return {
            zone: aws.ec2.Subnet(
                f"{self._name}-{zone}",
                vpc_id=self._vpc.id,
                availability_zone=zone,
                cidr_block=cidr,
                map_public_ip_on_launch=False,  # who needs a public address asks for it
                tags={**self._tags, "Name": f"{namespace}-{zone}"},
                opts=self._child,
            )
            for zone, cidr in zones.items()
        }

    def _make_gateway(
        self, namespace: str, region: str, subnets: Mapping[str, aws.ec2.Subnet]
    ) -> aws.ec2.InternetGateway:
        tags = {**self._tags, "Name": namespace}
        gateway = aws.ec2.InternetGateway(f"{self._name}-gateway", vpc_id=self._vpc.id, tags=tags, opts=self._child)
        table = aws.ec2.RouteTable(f"{self._name}-routes", vpc_id=self._vpc.id, tags=tags, opts=self._child)
        out = aws.ec2.Route(
            f"{self._name}-route",
            route_table_id=table.id,
            destination_cidr_block=_ANYWHERE,
            gateway_id=gateway.id,
            opts=self._child,
        )
        joined = [
            aws.ec2.RouteTableAssociation(
                f"{self._name}-{zone}", subnet_id=subnet.id, route_table_id=table.id, opts=self._child
            )
            for zone, subnet in subnets.items()
        ]
        # Free, and the way to the tables and the buckets does not leave AWS's network.
        endpoints = [
            aws.ec2.VpcEndpoint(
                f"{self._name}-{service}",
                vpc_id=self._vpc.id,
                service_name=f"com.amazonaws.{region}.{service}",
                vpc_endpoint_type="Gateway",
                route_table_ids=[table.id],
                tags={**self._tags, "Name": f"{namespace}-{service}"},
                opts=self._child,
            )
            for service in ("s3", "dynamodb")
        ]
        self._paths += [out, *joined, *endpoints]
        return gateway

    def _group(self, namespace: str, role: str, description: str) -> aws.ec2.SecurityGroup:
        return aws.ec2.SecurityGroup(
            f"{self._name}-{role}",
            name=f"{namespace}-{role}",
            description=description,
            vpc_id=self._vpc.id,
            tags={**self._tags, "Name": f"{namespace}-{role}"},
            opts=self._child,
        )

    def _connect(self, name: str, source: aws.ec2.SecurityGroup, target: aws.ec2.SecurityGroup, port: int) -> None:
        self._release(name, source, port, group=target.id)
        self._admit(name, target, port, group=source.id)

    def _admit(
        self,
        name: str,
        into: aws.ec2.SecurityGroup,
        port: int,
        *,
        cidr: str | None = None,
        prefix_list: pulumi.Input[str] | None = None,
        group: pulumi.Input[str] | None = None,
    ) -> None:
        rule = aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-{name}-in",
            security_group_id=into.id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            cidr_ipv4=cidr,
            prefix_list_id=prefix_list,
            referenced_security_group_id=group,
            description=name,
            tags=self._tags,
            opts=self._child,
        )
        self._paths.append(rule)

    def _release(
        self,
        name: str,
        out_of: aws.ec2.SecurityGroup,
        port: int,
        *,
        cidr: str | None = None,
        group: pulumi.Input[str] | None = None,
    ) -> None:
        rule = aws.vpc.SecurityGroupEgressRule(
            f"{self._name}-{name}-out",
            security_group_id=out_of.id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            cidr_ipv4=cidr,
            referenced_security_group_id=group,
            description=name,
            tags=self._tags,
            opts=self._child,
        )
        self._paths.append(rule)


def zones_of(region: str, count: int) -> Mapping[str, str]:
    """The first zones of the region by name, each with the subnet's range, which goes by the zone's letter.

    Zones are asked for while the program runs: how many subnets there are must be known at once. One with troubles is
    asked for too: left out, its subnet would go, and all that runs beside it would move. Raises RunError where the
    region has too few.
    """
    found = aws.get_availability_zones(
        exclude_zone_ids=list(EXCLUDED_ZONE_IDS),
        filters=[aws.GetAvailabilityZonesFilterArgs(name="opt-in-status", values=["opt-in-not-required"])],
    )
    names = sorted(found.names)[:count]
    if len(names) < FRONT_ZONES:
        raise pulumi.RunError(
            f"{region} has {len(names)} Availability Zones that CloudFront's VPC origins reach, and {FRONT_ZONES} are "
            "needed: choose another with `pulumi config set aws:region …`."
        )
    return {name: f"10.40.{16 * (ord(name[-1]) - ord('a'))}.0/20" for name in names}
