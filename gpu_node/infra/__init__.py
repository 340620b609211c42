"""The GPU nodes as a Pulumi component; the only part of this folder that knows Pulumi."""

from gpu_node.infra.group import NodeGroup, RootVolume
from gpu_node.infra.nodes import GpuNodes

__all__ = ["GpuNodes", "NodeGroup", "RootVolume"]
