"""Structured logs without personal data.

One JSON object a line on standard error. Only the fields of `ALLOWED` are written: whatever else
a caller passes is dropped, and the drop is counted in `dropped`. Of an exception the type and the
places in our code are written, never its text. Lines of other libraries are kept from WARNING up,
with anything that looks like an address or a number taken out.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog

ALLOWED: Final = frozenset(
    {
        "action",
        "address",
        "attempt",
        "code",
        "count",
        "duration_ms",
        "endpoint",
        "error",
        "event",
        "event_id",
        "findings",
        "frames",
        "job",
        "level",
        "logger",
        "method",
        "mode",
        "outcome",
        "owner",
        "reference",
        "size",
        "status",
        "subject_ref",
        "time",
        "url",
    }
)
"""The only fields that may be logged."""

_PERSONAL: Final = re.compile(r"[^\s\"'<>@]+@[^\s\"'<>@]+|\+?\d[\d ()./-]{5,}\d")


def configure(level: str) -> None:
    """Send everything that is logged in this process through one redacting writer."""
    structlog.configure(
        processors=[_stamp, _without_exception_text, redact, _render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = _Bridge()
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop every field that is not allowed; keep the count of what was dropped."""
    kept = {name: value for name, value in event.items() if name in ALLOWED}
    if len(kept) < len(event):
        kept["dropped"] = len(event) - len(kept)
    return kept


def scrub(text: str) -> str:
    """A text of somebody else's with what looks like an address or a number taken out."""
    return _PERSONAL.sub("[redacted]", text)


def _stamp(_: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["level"] = level
    event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    return event


def _without_exception_text(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["frames"] = frames_of(error)
    return event


def frames_of(error: BaseException) -> list[str]:
    """Where an exception passed, as `module.py:line function`; its text stays out."""
    return [
        f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-8:]
    ]


def _render(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    return json.dumps(event, default=str)


class _Bridge(logging.Handler):
    """Lines of other libraries, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        error = record.exc_info[1] if record.exc_info else None
        log.log(
            record.levelno,
            scrub(record.getMessage()),
            logger=record.name,
            exc_info=error,
        )
