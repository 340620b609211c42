"""Notices by SNS: a topic that mails whoever has confirmed it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from control_plane.errors import Unavailable
from control_plane.notice import Notice

_CONFIG = AioConfig(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})


class SnsTopic:
    """A Channel over SNS. Its client is made at the first notice."""

    name = "mail"

    def __init__(self, arn: str) -> None:
        self._arn = arn
        self._open = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> SnsTopic:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def send(self, notice: Notice) -> None:
        try:
            if self._client is None:
                self._client = await self._open.enter_async_context(aioboto3.Session().client("sns", config=_CONFIG))
            told = f"{notice.text}\n\nNotice {notice.id}"
            await self._client.publish(TopicArn=self._arn, Subject=notice.title, Message=told)
        except ParamValidationError:
            raise  # a mistake of ours, not AWS's
        except ClientError as error:
            raise Unavailable(f"SNS refused the notice: {error.response['Error']['Code']}") from error
        except (BotoCoreError, HttpError, TimeoutError) as error:
            raise Unavailable(f"SNS did not answer: {type(error).__name__}") from error
