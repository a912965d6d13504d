"""A log entry, and its representation as text and as JSON.

Messages contain names of repositories, headers and errors of upstreams, so nothing in them may begin a new
line or control a terminal: unprintable characters are escaped, here and for all formats. Only a fixed set
of fields is logged. A log call may have other values for its message; they appear in the message and
nowhere else.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import attrs
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure

from mirrord.observe.events import Event

FIELDS: Mapping[str, str] = {
    "repository": "MIRRORD_REPOSITORY",
    "reference": "MIRRORD_REFERENCE",
    "digest": "MIRRORD_DIGEST",
    "upstream": "MIRRORD_UPSTREAM",
    "outcome": "MIRRORD_OUTCOME",
    "client": "MIRRORD_CLIENT",
    "status": "MIRRORD_STATUS",
    "bytes": "MIRRORD_BYTES",
    "seconds": "MIRRORD_SECONDS",
    "uid": "MIRRORD_UID",
    "pid": "MIRRORD_PID",
}
"""The fields logged beside the message: the name in a log call and in JSON, and that in the journal."""

LEVELS: Mapping[str, int] = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
"""Names of levels, and their priorities in syslog(3) and the journal."""

MAX_MESSAGE = 8192
"""The maximum length of a message in characters: text from an upstream may be longer, and is cut."""

MAX_FIELD = 512

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNPRINTABLE_IN_LINES = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@attrs.frozen(kw_only=True)
class LogEntry:
    """A log entry; `at` is wall clock, `traceback` has several lines without a final newline."""

    at: float
    level: str
    message: str
    fields: Mapping[str, str | int | float] = attrs.field(factory=dict)
    event: Event | None = None
    traceback: str = ""

    @classmethod
    def of(cls, event: LogEvent) -> "LogEntry":
        """Return the entry for an event of twisted.logger."""
        kind = event.get("event")
        return cls(
            at=event.get("log_time", 0.0),
            level=level_of(event),
            message=escape(formatEvent(event))[:MAX_MESSAGE],
            fields={name: _value(event[name]) for name in FIELDS if event.get(name) is not None},
            event=kind if isinstance(kind, Event) else None,
            traceback=_traceback(event.get("log_failure")),
        )

    def as_text(self) -> str:
        """Return a line of time in UTC, level and message, followed by the lines of the traceback."""
        traceback = f"{self.traceback}\n" if self.traceback else ""
        return f"{_timestamp(self.at)} {self.level:8} {self.message}\n{traceback}"

    def as_json(self) -> str:
        """Return a line with an object: time, level, message, the kind of event if any, and the fields."""
        document: dict[str, object] = {
            "time": _timestamp(self.at),
            "level": self.level,
            "message": self.message,
        }
        if self.event is not None:
            document["event"] = self.event.word
        document.update(self.fields)
        if self.traceback:
            document["traceback"] = self.traceback
        return json.dumps(document) + "\n"


def level_of(event: LogEvent) -> str:
    """Return the name of an event's level, info by default."""
    level = event.get("log_level") or LogLevel.info
    return str(level.name)


def escape(text: str) -> str:
    """Return a text as a single line that cannot control a terminal."""
    return _UNPRINTABLE.sub(_escaped, text)


def _value(value: object) -> str | int | float:
    if isinstance(value, int | float):
        return round(value, 6)
    return escape(str(value))[:MAX_FIELD]


def _traceback(failure: object) -> str:
    if not isinstance(failure, Failure):
        return ""
    return _UNPRINTABLE_IN_LINES.sub(_escaped, failure.getTraceback().rstrip())


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:23] + "Z"
