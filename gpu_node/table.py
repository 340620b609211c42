"""What the agent asks of AWS: its row, its model's row, its own end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NewType

from botocore.exceptions import BotoCoreError, ClientError

from gpu_node.protocol import DRAIN_HOOK, NodeState, Orders, Report, from_attributes, to_attributes

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_dynamodb import DynamoDBClient

FIRST_LEASE_S = 600.0
"""What a node lives on whose agent is faster than the launcher; the control plane renews it like any other."""

ModelName = NewType("ModelName", str)

# The moves of control_plane.nodes, backwards: where the row may stand for the agent to put it into a state.
_SOURCES: Mapping[NodeState, tuple[NodeState, ...]] = {
    NodeState.BOOTING: (NodeState.PENDING, NodeState.BOOTING),
    NodeState.READY: (NodeState.BOOTING, NodeState.READY),
    NodeState.DRAINING: (
        NodeState.PENDING,
        NodeState.BOOTING,
        NodeState.READY,
        NodeState.DRAINING,
    ),
    NodeState.FAILED: (
        NodeState.PENDING,
        NodeState.BOOTING,
        NodeState.READY,
        NodeState.DRAINING,
    ),
}


class TableUnavailable(Exception):
    """AWS did not answer, or refused; nothing is known about the effect."""


class _ConditionFailed(Exception):
    def __init__(self, item: Mapping[str, Any]) -> None:
        super().__init__("the row is in another state")
        self.item = item


@dataclass(frozen=True)
class ModelRow:
    """What the agent reads of a row of the ``models`` table."""

    config: Mapping[str, Any]
    override: Mapping[str, Any]


@dataclass(frozen=True)
class Names:
    """Where the agent's rows are."""

    instances_table: str
    models_table: str
    group: str


class Table:
    """The agent's adapter. Every method raises TableUnavailable when AWS does not do what it is asked."""

    def __init__(self, dynamo: DynamoDBClient, scaling: AutoScalingClient, *, names: Names) -> None:
        self._dynamo = dynamo
        self._scaling = scaling
        self._names = names

    def report(self, report: Report) -> Orders:
        """Write the report and read the orders.

        The state is written where the table of moves allows it. Where the control plane has moved the row on, only
        what the node observes is written, and the orders tell where it stands. A row that is gone is TERMINATED.
        """
        try:
            return self._write(report.instance_id, self._move(report))
        except _ConditionFailed:
            pass
        try:
            return self._write(report.instance_id, _observation(report))
        except _ConditionFailed as failed:
            return Orders.from_item(failed.item) if failed.item else Orders(NodeState.TERMINATED, 0.0)

    def model(self, name: ModelName) -> ModelRow | None:
        """The model's row; None when there is none."""
        try:
            answer = self._dynamo.get_item(
                TableName=self._names.models_table, Key={"name": {"S": name}}, ConsistentRead=True
            )
        except (ClientError, BotoCoreError) as error:
            raise TableUnavailable(_brief(error)) from error
        if "Item" not in answer:
            return None
        row = from_attributes({key: value for key, value in answer["Item"].items() if key in ("config", "override")})
        return ModelRow(row.get("config") or {}, row.get("override") or {})

    def terminate_self(self, instance_id: str) -> None:
        """Leave the group for good, take the group's wish for this node along, and do not let the drain hook wait.

        Doing it twice is doing it once. A node that its group takes down already may be refused the first of these;
        the end of the wait is what it needs then.
        """
        try:
            self._leave(instance_id)
        except TableUnavailable:
            if not self._complete_drain(instance_id):
                raise
        else:
            self._complete_drain(instance_id)

    def _leave(self, instance_id: str) -> None:
        try:
            self._scaling.terminate_instance_in_auto_scaling_group(
                InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
            )
        except ClientError as error:
            if "not found" not in str(error).lower():
                raise TableUnavailable(_brief(error)) from error
        except BotoCoreError as error:
            raise TableUnavailable(_brief(error)) from error

    def _complete_drain(self, instance_id: str) -> bool:
        """False when nothing waits: no such action (yet, or any more), no such hook."""
        try:
            self._scaling.complete_lifecycle_action(
                LifecycleHookName=DRAIN_HOOK,
                AutoScalingGroupName=self._names.group,
                InstanceId=instance_id,
                LifecycleActionResult="CONTINUE",
            )
        except ClientError as error:
            if error.response["Error"].get("Code") == "ValidationError":
                return False
            raise TableUnavailable(_brief(error)) from error
        except BotoCoreError as error:
            raise TableUnavailable(_brief(error)) from error
        return True

    def _move(self, report: Report) -> _Update:
        sources = {f":from_{state}": str(state) for state in _SOURCES[report.state]}
        condition = f"#status IN ({', '.join(sources)})"
        if report.state is NodeState.BOOTING:
            condition = f"attribute_not_exists(instance_id) OR {condition}"
        first: dict[str, Any] = {
            "launched_at": report.phases[0].started_at if report.phases else report.heartbeat_at,
            "lease_until": report.heartbeat_at + FIRST_LEASE_S,
            "group": self._names.group,
        }
        if report.state is NodeState.READY:
            first["ready_at"] = report.heartbeat_at
        if report.state is NodeState.DRAINING:
            first |= {"draining_since": report.heartbeat_at, "reason": report.reason}
        always = report.to_item() | {"status": str(report.state)}
        return _Update(always, first=first, condition=condition, parameters=sources)

    def _write(self, instance_id: str, update: _Update) -> Orders:
        try:
            answer = self._dynamo.update_item(
                TableName=self._names.instances_table,
                Key={"instance_id": {"S": instance_id}},
                UpdateExpression=update.expression,
                ConditionExpression=update.condition,
                ExpressionAttributeNames=update.attribute_names,
                ExpressionAttributeValues=to_attributes(update.values),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                answered: Mapping[str, Any] = error.response
                raise _ConditionFailed(from_attributes(answered.get("Item", {}))) from error
            raise TableUnavailable(_brief(error)) from error
        except BotoCoreError as error:
            raise TableUnavailable(_brief(error)) from error
        return Orders.from_item(from_attributes(answer["Attributes"]))


@dataclass(frozen=True)
class _Update:
    """One conditional UpdateItem."""

    always: Mapping[str, Any]
    condition: str
    parameters: Mapping[str, Any]  # of the condition
    first: Mapping[str, Any] = field(default_factory=dict)  # set by the first writer only

    @property
    def expression(self) -> str:
        sets = [f"#{name} = :{name}" for name in self.always]
        sets += [f"#{name} = if_not_exists(#{name}, :{name})" for name in self.first]
        return "SET " + ", ".join(sets)

    @property
    def attribute_names(self) -> Mapping[str, str]:
        # All of them: `status` and `group` are reserved words, and the list of those grows.
        return {f"#{name}": name for name in (*self.always, *self.first, "status")}

    @property
    def values(self) -> Mapping[str, Any]:
        return {f":{name}": value for name, value in (*self.always.items(), *self.first.items())} | dict(
            self.parameters
        )


def _observation(report: Report) -> _Update:
    # Not the error: where the control plane gave up on the node, the reason in the row is its own.
    observed = {name: value for name, value in report.to_item().items() if name != "error"}
    return _Update(
        observed,
        condition="attribute_exists(instance_id) AND #status <> :terminated",
        parameters={":terminated": str(NodeState.TERMINATED)},
    )


def _brief(error: Exception) -> str:
    """What failed, without the request that failed."""
    if isinstance(error, ClientError):
        return f"{error.operation_name}: {error.response['Error'].get('Code', 'unknown')}"
    return type(error).__name__
