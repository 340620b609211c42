"""One JSON object a line: time, level, message, and the fields of the change that it tells of."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from control_plane.exchange import Aborted

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """What was given as ``extra`` becomes members of the object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _PLAIN},
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _on_purpose(record: logging.LogRecord) -> bool:
    """uvicorn reports a response that we abort on purpose as a fault of the application."""
    return not (record.exc_info and isinstance(record.exc_info[1], Aborted))


def configure() -> None:
    """Everything to stdout, from INFO on; the libraries from WARNING on."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_on_purpose)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("control_plane").setLevel(logging.INFO)
