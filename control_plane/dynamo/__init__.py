"""The stores of ``ports`` over DynamoDB.

Every condition lives in the write that it guards, so two control planes, the janitor and the nodes' agents may
write at once. A lost race raises ``errors.Stale``; a DynamoDB that does not answer raises ``errors.Unavailable``.
"""

from control_plane.dynamo.control import DynamoFence, DynamoLaunches, DynamoWishes
from control_plane.dynamo.events import DynamoEvents
from control_plane.dynamo.front import DynamoFront
from control_plane.dynamo.holds import DynamoHolds
from control_plane.dynamo.keys import DynamoKeys
from control_plane.dynamo.limits import DynamoLimits
from control_plane.dynamo.models import DynamoModels
from control_plane.dynamo.nodes import DynamoNodes
from control_plane.dynamo.notices import DynamoNotices
from control_plane.dynamo.people import DynamoOverrides, DynamoSessions
from control_plane.dynamo.table import open_dynamo
from control_plane.dynamo.usage import DynamoUsage

__all__ = [
    "DynamoEvents",
    "DynamoFence",
    "DynamoFront",
    "DynamoHolds",
    "DynamoKeys",
    "DynamoLaunches",
    "DynamoLimits",
    "DynamoModels",
    "DynamoNodes",
    "DynamoNotices",
    "DynamoOverrides",
    "DynamoSessions",
    "DynamoUsage",
    "DynamoWishes",
    "open_dynamo",
]
