"""The web app's routes are its one page; its files are themselves."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from web.site import CONFIG, HOME, site_files, site_folder

CODE = HOME / "rewrite.js"
NODE = shutil.which("node")

# In a context of its own, as at the edge: the function finds nothing of Node's there.
DRIVER = """
const vm = require("vm"), fs = require("fs");
const context = vm.createContext({});
vm.runInContext(fs.readFileSync(process.argv[1], "utf8"), context);
const events = JSON.parse(fs.readFileSync(0, "utf8"));
console.log(JSON.stringify(events.map((event) => context.handler(event))));
"""

needs_node = pytest.mark.skipif(NODE is None, reason="no node is installed: the edge's function did NOT run")


def answers(*uris: str) -> list[dict[str, Any]]:
    """What the function makes of a request for each path."""
    assert NODE is not None
    ran = subprocess.run(
        [NODE, "-e", DRIVER, str(CODE)],
        input=json.dumps([event(uri) for uri in uris]),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def event(uri: str) -> dict[str, Any]:
    """As CloudFront hands it over, for a viewer's request."""
    return {
        "version": "1.0",
        "context": {"distributionDomainName": "d111111abcdef8.cloudfront.net", "eventType": "viewer-request"},
        "viewer": {"ip": "198.51.100.7"},
        "request": {
            "method": "GET",
            "uri": uri,
            "querystring": {"model": {"value": "a"}},
            "headers": {"host": {"value": "d111111abcdef8.cloudfront.net"}},
            "cookies": {},
        },
    }


@needs_node
@pytest.mark.parametrize(
    "route",
    [
        "/",
        "/chat",
        "/chat/abc",
        "/chat/abc/",
        "/models/Qwen/Qwen2.5-7B",
        "/models/meta-llama/Llama-3.1",
        "/models/openai%2Fgpt-oss-20b",
        "/a.b/c",
        "/v1",
    ],
)
def test_a_route_of_the_app_is_its_page(route: str) -> None:
    assert answers(route)[0]["uri"] == "/index.html"


@needs_node
@pytest.mark.parametrize(
    "file", ["/index.html", "/config.json", "/assets/index-B4x_9dQz.js", "/fonts/a.woff2", "/.well-known/security.txt"]
)
def test_a_file_is_itself(file: str) -> None:
    assert answers(file)[0]["uri"] == file


@needs_node
def test_every_file_of_the_site_can_be_asked_for() -> None:
    files = [f"/{file.path}" for file in site_files(site_folder())] + [f"/{CONFIG}"]
    assert [answer["uri"] for answer in answers(*files)] == files


@needs_node
def test_nothing_but_the_path_is_changed() -> None:
    assert answers("/chat/abc")[0] == {**event("/chat/abc")["request"], "uri": "/index.html"}


def test_the_function_is_as_small_as_the_edge_allows() -> None:
    assert len(CODE.read_bytes()) <= 10_240
