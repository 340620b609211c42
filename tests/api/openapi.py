"""What FastAPI says of the management routes, as the web app's types are made from it: ``make web-types``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

import orjson

from control_plane.management import management_app


def document() -> Mapping[str, Any]:
    """The description; nothing of it depends on what runs."""
    described: Mapping[str, Any] = management_app(cast(Any, None), cast(Any, None)).openapi()
    return described


def as_text() -> str:
    return orjson.dumps(document(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode() + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_text())
