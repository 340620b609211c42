"""What the account says: AWS's two wire formats, JSON for DynamoDB, XML for Auto Scaling, EC2 and other old ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rehearsal.activities import Activity
    from rehearsal.launch_api import LaunchAnswer

_NAMESPACES = {
    "autoscaling": "http://autoscaling.amazonaws.com/doc/2011-01-01/",
    "ec2": "http://ec2.amazonaws.com/doc/2016-11-15/",
    "elasticloadbalancing": "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    content_type: str
    body: bytes
    headers: Sequence[tuple[str, str]] = field(default_factory=tuple)

    @classmethod
    def of_wsgi(cls, line: str, headers: Iterable[tuple[str, str]], body: bytes) -> Answer:
        kept = [(name, value) for name, value in headers if name.lower() not in ("content-type", "content-length")]
        kind = next((value for name, value in headers if name.lower() == "content-type"), "application/octet-stream")
        return cls(int(line.split()[0]), kind, body, kept)

    def send(self, start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
        status = f"{self.status} {HTTPStatus(self.status).phrase}"
        length = ("Content-Length", str(len(self.body)))
        start_response(status, [("Content-Type", self.content_type), length, *self.headers])
        return [self.body]


def refused(service: str, code: str, message: str, *, status: int = 400) -> Answer:
    """An error of AWS, in the service's own format."""
    if service not in _NAMESPACES:
        body = json.dumps({"__type": code, "message": message}).encode()
        return Answer(status, "application/x-amz-json-1.0", body, [("x-amzn-errortype", code)])
    kind = "Sender" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "Receiver"
    error = f"<Error>{_fields(Type=kind, Code=code, Message=message)}</Error>"
    if service == "ec2":
        text = f"<Response><Errors>{error}</Errors><RequestID>rehearsal</RequestID></Response>"
    else:
        text = f"<ErrorResponse xmlns='{_NAMESPACES[service]}'>{error}<RequestId>rehearsal</RequestId></ErrorResponse>"
    return Answer(status, "text/xml", text.encode())


def denied(service: str, message: str) -> Answer:
    """What each service says when IAM does not allow the call."""
    if service == "ec2":
        return refused(service, "UnauthorizedOperation", message, status=403)
    if service in _NAMESPACES:
        return refused(service, "AccessDenied", message, status=403)
    if service == "s3":
        text = f"<Error>{_fields(Code='AccessDenied', Message=message)}<RequestId>rehearsal</RequestId></Error>"
        return Answer(403, "application/xml", text.encode())
    return refused(service, "AccessDeniedException", message, status=403 if service == "lambda" else 400)


def throttled(service: str) -> Answer:
    """What each service says when it is asked too often."""
    if service == "ec2":
        return refused(service, "RequestLimitExceeded", "Request limit exceeded.", status=503)
    code = "Throttling" if service in _NAMESPACES else "ThrottlingException"
    return refused(service, code, "Rate exceeded")


def internal_failure(service: str) -> Answer:
    code = "InternalFailure" if service in _NAMESPACES else "InternalServerError"
    return refused(service, code, "The request processing has failed because of an unknown error.", status=500)


def launch_instances(answer: LaunchAnswer, *, request_id: str) -> str:
    place: Mapping[str, object] = {
        "InstanceType": answer.instance_type,
        "MarketType": answer.market,
        "SubnetId": answer.subnet,
        "AvailabilityZone": answer.zone,
    }
    instances = errors = ""
    if answer.members:
        ids = "".join(f"<member>{escape(member.id)}</member>" for member in answer.members)
        instances = f"<member>{_fields(**place)}<InstanceIds>{ids}</InstanceIds></member>"
    if answer.refusal:
        refusal = _fields(ErrorCode=answer.refusal.code, ErrorMessage=answer.refusal.message)
        errors = f"<member>{_fields(**place)}{refusal}</member>"
    head = _fields(AutoScalingGroupName=answer.request.group, ClientToken=answer.token)
    body = f"{head}<Instances>{instances}</Instances><Errors>{errors}</Errors>"
    return autoscaling("LaunchInstances", body, request_id=request_id)


def activity(entry: Activity) -> str:
    return _fields(
        ActivityId=entry.id,
        AutoScalingGroupName=entry.group,
        Description=entry.description,
        Cause="a difference between desired and actual capacity, or a request",
        StartTime=entry.at.isoformat(),
        EndTime=entry.at.isoformat(),
        StatusCode=entry.status,
        StatusMessage=entry.message,
        Progress=100,
    )


def autoscaling(operation: str, body: str, *, request_id: str) -> str:
    return (
        f"<{operation}Response xmlns='{_NAMESPACES['autoscaling']}'><{operation}Result>{body}</{operation}Result>"
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    )


def terminate_instances(ids: Sequence[str], *, request_id: str) -> str:
    gone = "<currentState><code>48</code><name>terminated</name></currentState>"
    items = "".join(f"<item><instanceId>{escape(instance_id)}</instanceId>{gone}</item>" for instance_id in ids)
    return (
        f"<TerminateInstancesResponse xmlns='{_NAMESPACES['ec2']}'><requestId>{request_id}</requestId>"
        f"<instancesSet>{items}</instancesSet></TerminateInstancesResponse>"
    )


def _fields(**values: object) -> str:
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in values.items())
