"""Our two cookies: the session's, and that of a sign-in under way. Neither is readable for a page's scripts."""

from __future__ import annotations

from collections.abc import Mapping

MAX_COOKIES = 100


class Cookies:
    """Names and attributes; ``plain_http`` for a desk, where browsers keep no cookie that is Secure."""

    def __init__(self, *, plain_http: bool) -> None:
        # With the prefix, a browser takes the cookie from this very host over TLS alone, and no subdomain can set it.
        self._prefix = "" if plain_http else "__Host-"
        self._secure = "" if plain_http else "; Secure"
        self.session = f"{self._prefix}diogenes"

    def sign_in(self, state: str) -> str:
        """One for each sign-in: people begin two in two tabs."""
        return f"{self._prefix}diogenes-signin-{state[:8]}"

    def setting(self, name: str, value: str, *, max_age_s: float) -> str:
        """A value of Set-Cookie."""
        return f"{name}={value}; Path=/; Max-Age={int(max_age_s)}; HttpOnly; SameSite=Strict{self._secure}"

    def clearing(self, name: str) -> str:
        return self.setting(name, "", max_age_s=0)


def parse(header: str) -> Mapping[str, str]:
    """The cookies of a request's header; of a name that comes twice, the first, as browsers order them."""
    found: dict[str, str] = {}
    for part in header.split(";")[:MAX_COOKIES]:
        name, equals, value = part.strip().partition("=")
        if equals:
            found.setdefault(name, value.strip('"'))
    return found
