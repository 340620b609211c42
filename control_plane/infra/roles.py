"""One IAM role: who takes it, and what it may do."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws

from control_plane.infra.policies import Statement, document
from control_plane.schema import TAG


class Role(pulumi.ComponentResource):
    """A role with one inline policy, given by ``allow`` once what it is allowed on exists."""

    def __init__(
        self,
        name: str,
        *,
        namespace: str,
        physical_name: str,
        trust: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("diogenes:control_plane:Role", name, {}, opts)
        self._name = name
        self._role = aws.iam.Role(
            name,
            name=physical_name,
            assume_role_policy=trust,
            tags={TAG: namespace},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.arn = self._role.arn
        self.register_outputs({"arn": self.arn})

    def allow(self, statements: pulumi.Output[Sequence[Statement]]) -> aws.iam.RolePolicy:
        """The only policy of the role. What runs as the role should wait for it."""
        return aws.iam.RolePolicy(
            self._name,
            name="permissions",
            role=self._role.name,
            policy=statements.apply(document),
            opts=pulumi.ResourceOptions(parent=self),
        )
