"""The Auto Scaling groups that the configured models need. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane import schema
from control_plane.deployment import Deployment
from control_plane.model import slug
from gpu_node.infra import NodeGroup


def node_groups(deployment: Deployment) -> Sequence[NodeGroup]:
    """One for each model and market: AWS launches nothing at once from a group that mixes Spot and On-Demand."""
    return [
        NodeGroup(
            name=schema.group_name(deployment.namespace, slug(model.name), market),
            model=model.name,
            market=market,
            instance_types=model.instance_types,
            tags={schema.TAG: deployment.namespace, schema.MODEL_TAG: model.name, schema.MARKET_TAG: market},
            repository=model.repository,
            weights=model.weights,
            max_lifetime_s=model.max_lifetime_s,
        )
        for model in deployment.models
        for market in model.market.ladder
    ]
