"""Lines: log entries as text or JSON, and a stream that is never waited for.

Standard output may be a pipe to somebody who has stopped reading, or the journal's own stream: a
write would then wait, and everybody with it. To make the descriptor non-blocking is no way out, for
it is shared with the shell that started us. So it is asked first whether there is room, and a line is
written in pieces that are sure to fit then.
"""

import json
import os
import select
from datetime import UTC, datetime

import attrs

from mirrord.observe.entry import LogEntry

_PIECE_BYTES = select.PIPE_BUF
"""What a pipe, a terminal or a socket with room takes without waiting (pipe(7))."""


def text_line(entry: LogEntry) -> str:
    """Time in UTC, level, message; a traceback follows on lines of its own."""
    traceback = f"{entry.traceback}\n" if entry.traceback else ""
    return f"{_moment(entry.at)} {entry.level:8} {entry.message}\n{traceback}"


def json_line(entry: LogEntry) -> str:
    """One object: time, level, message, the kind of event if it has one, and its fields."""
    document: dict[str, object] = {
        "time": _moment(entry.at),
        "level": entry.level,
        "message": entry.message,
    }
    if entry.event is not None:
        document["event"] = entry.event.word
    document.update(entry.fields)
    if entry.traceback:
        document["traceback"] = entry.traceback
    return json.dumps(document) + "\n"


@attrs.define(eq=False)
class LineStream:
    """Writes lines to a file descriptor that others may hold too."""

    _fd: int
    _is_torn: bool = attrs.field(default=False, init=False)

    def write(self, text: str) -> bool:
        """Write, unless that would wait; whether all of it was taken."""
        rest = (b"\n" if self._is_torn else b"") + text.encode("utf-8", "backslashreplace")
        try:
            while rest and self._has_room():
                count = os.write(self._fd, rest[:_PIECE_BYTES])
                self._is_torn = rest[count - 1 : count] != b"\n"
                rest = rest[count:]
        except OSError:
            return False
        return not rest

    def _has_room(self) -> bool:
        asked = select.poll()
        asked.register(self._fd, select.POLLOUT)
        return bool(asked.poll(0))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:23] + "Z"
