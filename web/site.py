"""The site's files: which there are, and how each is to be served. Pure but for looking at the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parent

# The bundler puts a hash of the content into the names of all that it writes here, and of nothing else.
HASHED = "assets/"
FOR_EVER = "public, max-age=31536000, immutable"
ASK_EVERY_TIME = "no-cache"  # kept, but never shown without asking whether it changed

# Our own list: the machine's would make what is deployed depend on who deploys. Browsers are told not to guess, so a
# wrong type is a page that does not work.
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".map": "application/json; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml; charset=utf-8",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json; charset=utf-8",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}

CONFIG = "config.json"  # written at deployment, never from the folder


class UnknownFileType(ValueError):
    """A file of the site has an ending that ``CONTENT_TYPES`` lacks."""


@dataclass(frozen=True)
class SiteFile:
    """One file and the headers that it is served with."""

    path: str  # below the site's root, with forward slashes
    source: Path
    content_type: str
    cache_control: str

    @property
    def hashed(self) -> bool:
        """Its name changes with its content."""
        return self.cache_control == FOR_EVER


def is_built(home: Path = HOME) -> bool:
    """Whether `make web` made the web app."""
    return (home / "dist" / "index.html").is_file()


def site_folder(home: Path = HOME) -> Path:
    """The built web app where there is one, else the page that stands in for it."""
    return home / ("dist" if is_built(home) else "standin")


def site_files(folder: Path) -> Sequence[SiteFile]:
    """All files below a folder, by path, without ``config.json`` and hidden files. Raises UnknownFileType."""
    found = sorted((file.relative_to(folder), file) for file in folder.rglob("*") if file.is_file())
    return [
        _site_file(path.as_posix(), file)
        for path, file in found
        if path.as_posix() != CONFIG and not any(part.startswith(".") for part in path.parts)
    ]


def _site_file(path: str, source: Path) -> SiteFile:
    content_type = CONTENT_TYPES.get(source.suffix.lower())
    if content_type is None:
        raise UnknownFileType(f"{source}: no content type is known for {source.suffix!r}; add it to web/site.py")
    return SiteFile(path, source, content_type, FOR_EVER if path.startswith(HASHED) else ASK_EVERY_TIME)
