"""The edge: which requests are the site's, and what a browser gets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pulumi
import pytest

from rehearsal.edge import Edge

API = ("/v1/*", "/api/*")
HEADERS = {"Content-Security-Policy": "default-src 'none'"}


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    (tmp_path / "index.html").write_text("the app")
    kept = {"contentType": "text/html", "cacheControl": "no-cache"}
    objects: dict[str, dict[str, Any]] = {
        "index.html": {**kept, "source": pulumi.FileAsset(str(tmp_path / "index.html"))},
        "config.json": {"contentType": "application/json", "cacheControl": "no-cache", "content": "{}"},
    }
    return Edge(objects, api_paths=API, headers=HEADERS, file_name=re.compile(r"\.[A-Za-z][A-Za-z0-9]*$"))


@pytest.mark.parametrize("path", ["/v1/models", "/api/session", "/v1/chat/completions"])
def test_what_is_the_apis_is_left_to_it(edge: Edge, path: str) -> None:
    assert edge.page("GET", path) is None
    assert edge.page("POST", path) is None


@pytest.mark.parametrize("path", ["/", "/chat/abc", "/models/Qwen/Qwen2.5-7B", "/v1", "/apis"])
def test_the_apps_own_paths_are_its_one_page(edge: Edge, path: str) -> None:
    page = edge.page("GET", path)
    assert page is not None
    assert (page.status, page.body) == (200, b"the app")
    assert page.headers == {**HEADERS, "Content-Type": "text/html", "Cache-Control": "no-cache"}


def test_a_file_is_itself_and_one_that_is_missing_is_no_page(edge: Edge) -> None:
    config = edge.page("GET", "/config.json")
    missing = edge.page("GET", "/assets/old.js")
    assert config is not None
    assert missing is not None
    assert (config.status, config.body) == (200, b"{}")
    assert (missing.status, missing.body) == (403, b"")


def test_nothing_can_be_sent_to_the_site(edge: Edge) -> None:
    head, post = edge.page("HEAD", "/"), edge.page("POST", "/")
    assert head is not None
    assert post is not None
    assert (head.status, head.body) == (200, b"")
    assert post.status == 403
