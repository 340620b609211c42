"""Notices by SNS: a topic that mails whoever has confirmed it."""

from __future__ import annotations

from control_plane.aws_client import AwsClient, Session
from control_plane.notice import Notice


class SnsTopic(AwsClient):
    """A Channel over SNS."""

    name = "mail"

    def __init__(self, arn: str, *, session: Session | None = None) -> None:
        super().__init__("sns", connect_s=2, read_s=5, attempts=2, session=session)
        self._arn = arn

    async def send(self, notice: Notice) -> None:
        told = f"{notice.text}\n\nNotice {notice.id}"
        async with self.asking("the notice") as sns:
            await sns.publish(TopicArn=self._arn, Subject=notice.title, Message=told)
