"""What all clients of AWS in a process share."""

from __future__ import annotations

from pathlib import Path

import aioboto3
from aiobotocore.session import AioSession
from botocore.loaders import Loader

OVERLAY = Path(__file__).with_name("overlay")
"""Operations that the bundled SDK is too old for, in botocore's own format for additions."""


def aws_session() -> aioboto3.Session:
    """The one session of a process, which knows ``OVERLAY``.

    Every further session reads AWS's list of endpoints again (6 MB, 40 ms of CPU), and asks for credentials of its own.
    """
    session = AioSession()
    add_overlay(session.get_component("data_loader"))
    return aioboto3.Session(botocore_session=session)


def add_overlay(loader: Loader) -> None:
    """Teach a botocore loader (a session's ``data_loader``, or an emulator's own) the operations of ``OVERLAY``."""
    loader.search_paths.append(str(OVERLAY))
    if "sdk" not in loader.extras_types:
        loader.extras_types.append("sdk")
