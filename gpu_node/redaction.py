"""A log line as it may be shown and stored: no secret, nothing of a request, not too long. Pure.

What looks like a secret goes, and so does every value that the agent knows to be one, however it looks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpu_node.protocol import LOG_LINE_CHARS

MASK = "[secret]"

_REQUEST = re.compile(r"(?i)prompt(_token_ids|_embeds)?['\"]?\s*[:=]|['\"]messages['\"]\s*:|received request")

# The query of a link is what signs it: S3's, CloudFront's and the hub's own storage's alike.
_QUERY = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s?#'\"]+)\?[^\s'\"]+")
_USER_INFO = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]+@")
_NAMED = re.compile(
    r"(?i)\b([\w-]*(?:token|secret|password|passwd|api[_-]?key|access[_-]?key(?:[_-]id)?|credentials?|authorization))"
    r"(['\"]?\s*(?:=|:|\s(?=\S{12,}(?:\s|$)))\s*)(?!(?:bearer|basic)\b)(\[[^\]]*\]|'[^']*'|\"[^\"]*\"|[^\s,;)}\]]+)"
)
_SHAPED = re.compile(
    r"\b(?:hf|api_org)_[A-Za-z0-9]{6,}|\b(?:dio|sk)-[A-Za-z0-9_-]{6,}|\bgh[pousr]_[A-Za-z0-9]{16,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|(?i:\b(?:bearer|basic) )\S+"
)
# Numbers, and words that vLLM prints beside such names: `num_special_tokens: 3`, `token=None`.
_HARMLESS = re.compile(r"(?i)[\d.,%]+(?:[kmg]i?b?)?|none|null|true|false|auto|\[\]|''|\"\"")


def scrub(line: str, secrets: Sequence[str] = ()) -> str:
    """``line`` without secrets; ``secrets`` are values that must not be shown whatever stands around them."""
    if _REQUEST.search(line):
        return "(a line about a request, left out)"
    for secret in secrets:
        if secret:
            line = line.replace(secret, MASK)
    line = _QUERY.sub(rf"\1?{MASK}", line)
    line = _USER_INFO.sub(rf"\1{MASK}@", line)
    line = _SHAPED.sub(MASK, line)
    return _NAMED.sub(_masked, line)[:LOG_LINE_CHARS]


def _masked(found: re.Match[str]) -> str:
    name, between, value = found.groups()
    return found[0] if _HARMLESS.fullmatch(value) or value == MASK else f"{name}{between}{MASK}"
