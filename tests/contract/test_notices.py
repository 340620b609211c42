"""The promises of NoticeStore, and a notice through an emulated SNS."""

from __future__ import annotations

from collections.abc import AsyncIterator

import boto3
import pytest

from control_plane import schema
from control_plane.aws_session import aws_session
from control_plane.dynamo import DynamoNotices, open_dynamo
from control_plane.errors import Stale, Unavailable
from control_plane.event import Entry, Event, EventKind
from control_plane.notice import Notice, NoticeStore, Progress
from control_plane.parameters import SsmWebhook
from control_plane.sns import SnsTopic
from tests.contract.under_test import Desk
from tests.memory_notices import MemoryNotices

NOTICE = Notice("d", [Entry(7, Event(1_795_046_400.0, EventKind.START_FAILED, "x", "A start of m failed.", "m"))])


@pytest.fixture
async def dynamo_notices(tables: None, namespace: str) -> AsyncIterator[NoticeStore]:
    async with open_dynamo(aws_session()) as client:
        yield DynamoNotices(client, namespace)


@pytest.fixture
def memory_notices() -> NoticeStore:
    return MemoryNotices()


@pytest.fixture(params=["memory", "dynamo"])
def store(request: pytest.FixtureRequest) -> NoticeStore:
    found: NoticeStore = request.getfixturevalue(f"{request.param}_notices")
    return found


async def test_a_channel_begins_at_the_beginning_and_each_has_its_own(store: NoticeStore) -> None:
    assert await store.read("mail") == Progress()
    written = await store.write("mail", Progress(done=7, told={"start-failed x m": 12.5}, next_at=3.5))
    assert written == await store.read("mail") == Progress(7, 0, 0.0, 0, 3.5, {"start-failed x m": 12.5}, 1)
    assert await store.read("webhook") == Progress()


async def test_only_who_read_the_newest_writes(store: NoticeStore) -> None:
    first = await store.write("mail", Progress(done=1))
    with pytest.raises(Stale):
        await store.write("mail", Progress(done=2))
    second = await store.write("mail", first)
    with pytest.raises(Stale):
        await store.write("mail", first)
    assert (await store.read("mail")).version == second.version == 2


async def test_a_notice_is_published_with_subject_and_text(desk: Desk, namespace: str) -> None:
    arn = boto3.client("sns").create_topic(Name=namespace)["TopicArn"]
    async with SnsTopic(arn) as topic:
        await topic.send(NOTICE)
    mail = desk.account.mails()[-1]
    assert mail.subject == "[d] a start failed"
    assert mail.text.startswith("2026-11-19 00:00 UTC: A start of m failed.\n")
    assert mail.text.endswith("\n\nNotice d-000000000007")


async def test_a_topic_that_is_not_there_and_an_aws_that_fails_are_to_be_tried_again(
    desk: Desk, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SnsTopic(f"arn:aws:sns:us-east-1:123456789012:{namespace}-gone") as topic:
        with pytest.raises(Unavailable, match=r"SNS refused the notice: NotFound"):
            await topic.send(NOTICE)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    async with SnsTopic(f"arn:aws:sns:us-east-1:123456789012:{namespace}") as topic:
        with pytest.raises(Unavailable, match="SNS did not answer"):
            await topic.send(NOTICE)


async def test_the_webhook_stands_in_parameters_and_is_read_once(desk: Desk, namespace: str) -> None:
    async with SsmWebhook(namespace) as target:
        with pytest.raises(Unavailable, match="not there"):
            await target()
        ssm = boto3.client("ssm")
        for name, value in ((schema.NOTIFICATION_WEBHOOK, "https://example.org/x"), (schema.NOTIFICATION_KEY, "abcd")):
            ssm.put_parameter(Name=schema.parameter_name(namespace, name), Value=value, Type="SecureString")
        before = desk.account.calls()["ssm:GetParameters"]
        for _ in range(3):
            told = await target()
            assert (told.url, told.key) == ("https://example.org/x", "abcd")
        assert desk.account.calls()["ssm:GetParameters"] == before + 1
