"""LogEntry: what is told of one event, before it is settled how.

Names of repositories, headers and errors of upstreams are in these texts, so nothing in them may
begin a new line or steer a terminal: what does not print is escaped, here and once for all formats.
Fields are told by a whitelist. Whoever logs may add what its message needs; it is in the message
then, and nowhere else.
"""

import re
from collections.abc import Mapping

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
}
"""What is told beside the message: the name in a log call and in JSON, and that in the journal."""

LEVELS: Mapping[str, int] = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
"""Names of levels, and the priorities that syslog(3) and the journal give them."""

MAX_MESSAGE = 8192
"""Characters of a message: what an upstream says may be long, and says no more after so many."""

MAX_FIELD = 512

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNPRINTABLE_IN_LINES = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@attrs.frozen
class LogEntry:
    """One event as it is told; `at` is wall clock, `traceback` has lines and no end of line."""

    at: float
    level: str
    message: str
    fields: Mapping[str, str | int | float] = attrs.field(factory=dict)
    event: Event | None = None
    traceback: str = ""

    @classmethod
    def of(cls, event: LogEvent) -> "LogEntry":
        """What is told of an event of Twisted's."""
        kind = event.get("event")
        return cls(
            event.get("log_time", 0.0),
            level_of(event),
            escape(formatEvent(event))[:MAX_MESSAGE],
            {name: _value(event[name]) for name in FIELDS if event.get(name) is not None},
            kind if isinstance(kind, Event) else None,
            _traceback(event.get("log_failure")),
        )

    @property
    def priority(self) -> int:
        """Its level as the journal counts: 0 is the worst."""
        return LEVELS[self.level]


def level_of(event: LogEvent) -> str:
    """The name of an event's level; what has none is info."""
    level = event.get("log_level") or LogLevel.info
    return str(level.name)


def escape(text: str) -> str:
    """A text that is one line, and does nothing to a terminal."""
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
