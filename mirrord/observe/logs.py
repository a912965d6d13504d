"""Logs: one line of text an event, for `twistd --logger=mirrord.observe.logs.observer`.

Names of repositories, headers and errors of upstreams are in these lines, so nothing in them may
begin a new line or steer a terminal: what does not print is escaped. Only a failure takes several
lines, for its traceback.
"""

import re
import sys
from datetime import UTC, datetime
from typing import Protocol

import attrs
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNPRINTABLE_IN_LINES = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Stream(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object:
        """Take some text."""

    def flush(self) -> object:
        """Let it go at once."""


@implementer(ILogObserver)
@attrs.define(eq=False)
class TextObserver:
    """Writes what happens, from level info on, to a stream."""

    _stream: Stream

    def __call__(self, event: LogEvent) -> None:
        """Write one event."""
        level = event.get("log_level") or LogLevel.info
        if level is LogLevel.debug:
            return
        moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC).isoformat(timespec="milliseconds")
        text = _escape(_UNPRINTABLE, formatEvent(event))
        self._stream.write(f"{moment[:23]}Z {level.name:8} {text}\n{_traceback(event)}")
        self._stream.flush()


def observer() -> ILogObserver:
    """The observer of this daemon; it keeps the stdout of now, before twistd turns that into a log."""
    return TextObserver(sys.stdout)


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if not isinstance(failure, Failure):
        return ""
    return _escape(_UNPRINTABLE_IN_LINES, failure.getTraceback().rstrip()) + "\n"


def _escape(unprintable: re.Pattern[str], text: str) -> str:
    return unprintable.sub(lambda found: ascii(found[0])[1:-1], text)
