"""Which files make the site, how each is served, and what the page that stands in for the web app may contain."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.infra.component import run_component
from web.bucket import SiteBucket
from web.site import ASK_EVERY_TIME, FOR_EVER, HOME, UnknownFileType, site_files, site_folder

STANDIN = HOME / "standin"
PAGE = STANDIN / "index.html"


def write(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def test_the_built_app_is_taken_where_there_is_one(tmp_path: Path) -> None:
    write(tmp_path, "standin/index.html")
    assert site_folder(tmp_path) == tmp_path / "standin"
    write(tmp_path, "dist/assets/half-built.js")
    assert site_folder(tmp_path) == tmp_path / "standin"
    write(tmp_path, "dist/index.html")
    assert site_folder(tmp_path) == tmp_path / "dist"


def test_only_names_with_a_hash_are_kept_for_ever(tmp_path: Path) -> None:
    write(tmp_path, "index.html", "favicon.svg", "assets/index-B4x_9dQz.js", "fonts/mono.woff2")
    kept = {file.path: file.cache_control for file in site_files(tmp_path)}
    assert kept == {
        "assets/index-B4x_9dQz.js": FOR_EVER,
        "favicon.svg": ASK_EVERY_TIME,
        "fonts/mono.woff2": ASK_EVERY_TIME,
        "index.html": ASK_EVERY_TIME,
    }


def test_every_file_says_what_it_is(tmp_path: Path) -> None:
    write(tmp_path, "index.html", "a.js", "a.css", "a.woff2", "a.SVG", "a.webmanifest")
    types = {file.path: file.content_type for file in site_files(tmp_path)}
    assert types == {
        "a.SVG": "image/svg+xml; charset=utf-8",
        "a.css": "text/css; charset=utf-8",
        "a.js": "text/javascript; charset=utf-8",
        "a.webmanifest": "application/manifest+json; charset=utf-8",
        "a.woff2": "font/woff2",
        "index.html": "text/html; charset=utf-8",
    }


def test_a_file_of_no_known_type_stops_the_deployment_and_says_where_to_add_it(tmp_path: Path) -> None:
    write(tmp_path, "index.html", "notes.docx")
    with pytest.raises(UnknownFileType, match=r"notes\.docx.*'\.docx'.*web/site\.py"):
        site_files(tmp_path)


def test_hidden_files_and_a_developers_config_stay_at_home(tmp_path: Path) -> None:
    write(tmp_path, "index.html", ".DS_Store", ".cache/x.js", "config.json", "other/config.json")
    assert [file.path for file in site_files(tmp_path)] == ["index.html", "other/config.json"]


def test_a_page_left_open_over_an_update_still_finds_its_own_parts(tmp_path: Path) -> None:
    write(tmp_path, "index.html", "assets/index-B4x_9dQz.js")

    def build() -> None:
        SiteBucket("site", name_prefix="diogenes-test-web-", tags={}, folder=tmp_path, config={})

    objects = run_component(build).of(":BucketObjectv2")
    kept = {each.inputs["key"]: each.request.retainOnDelete for each in objects}
    assert kept == {"assets/index-B4x_9dQz.js": True, "index.html": False, "config.json": False}


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    page = Page(PAGE.read_text())
    assert not page.tags & {"script", "style", "iframe", "object", "base", "form"}
    assert not [name for name in page.attributes if name == "style" or name.startswith("on")]
    assert page.links == {"/favicon.svg", "/style.css"}
    assert "url(" not in (STANDIN / "style.css").read_text()


def test_what_the_page_links_to_is_deployed() -> None:
    deployed = {f"/{file.path}" for file in site_files(STANDIN)}
    assert Page(PAGE.read_text()).links <= deployed


def test_the_page_says_where_the_api_is_and_how_to_get_a_key() -> None:
    text = Page(PAGE.read_text()).text
    for told in ("/v1", "base_url=", "api_key=", "sleep", "pulumi stack output firstKey", "/api/keys"):
        assert told in text
