"""The web app's types are made from what the routes say of themselves."""

from __future__ import annotations

from tests.api.openapi import as_text
from web.site import HOME


def test_the_description_that_the_web_app_was_typed_by_is_todays() -> None:
    assert (HOME / "openapi.json").read_text() == as_text(), "`make web-types` makes it again"
