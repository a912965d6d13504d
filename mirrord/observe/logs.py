"""The log observer of the daemon, for twistd and for `--logger=mirrord.observe.logs.observer`.

The operator chooses level and format, and may change them on a reload. An entry that cannot be written
without blocking is dropped and counted; the next entry that can be written is preceded by their number.

Standard output may be a pipe whose reader has stopped, or the journal's own stream: a write would then
block the reactor. The descriptor cannot be made non-blocking, because it is shared with the shell that
started the daemon. So each line is written in pieces that are sure to fit, each after a check that there is
room.
"""

import os
import select
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

import attrs
from logging_journald import JournaldTransport
from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from mirrord.observe.events import Event
from mirrord.observe.log_entry import FIELDS, LEVELS, LogEntry, level_of

IDENTIFIER = "mirrord"
_PIECE_BYTES = select.PIPE_BUF
"""The size that a pipe, a terminal or a socket with room accepts without blocking (pipe(7))."""


@attrs.define(eq=False)
class LineStream:
    """Writes lines to a file descriptor that may be shared, without blocking."""

    _fd: int
    _is_torn: bool = attrs.field(default=False, init=False)

    def write(self, text: str) -> bool:
        """Write as much as is possible without blocking, and return whether that was all."""
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
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))


class Transport(Protocol):
    """The connection to the journal."""

    def send(self, pairs: list[tuple[str, object]], /) -> None:
        """Send names and values as one entry."""


@attrs.frozen(eq=False)
class Journal:
    """The systemd journal of this machine: entries in its native protocol (systemd.journal-fields(7))."""

    _transport: Transport

    @classmethod
    def at(cls, path: Path = JournaldTransport.SOCKET_PATH) -> "Journal":
        """Return the journal with a socket at `path`, which may be restarted, or start later."""
        transport = JournaldTransport(path, connected=False)
        transport.socket.setblocking(False)
        return cls(transport)

    def write(self, entry: LogEntry) -> None:
        """Send an entry. The traceback is part of its message, because journalctl shows only that.

        Raises:
            BlockingIOError: The journal would block, and the reactor cannot wait for it.
            OSError: There is no journal.
        """
        message = f"{entry.message}\n{entry.traceback}" if entry.traceback else entry.message
        pairs: list[tuple[str, object]] = [
            ("MESSAGE", message),
            ("PRIORITY", LEVELS[entry.level]),
            ("SYSLOG_IDENTIFIER", IDENTIFIER),
        ]
        if entry.event is not None:
            pairs.append(("MESSAGE_ID", entry.event.value))
        pairs += [(FIELDS[name], value) for name, value in entry.fields.items()]
        self._transport.send(pairs)


@implementer(ILogObserver)
@attrs.define(eq=False)
class Logs:
    """Logs events of some level or above. `is_journaled` selects the journal for the format `auto`."""

    _stream: LineStream
    _journal: Journal
    _is_journaled: bool
    dropped: int = attrs.field(default=0, init=False)
    _unreported: int = attrs.field(default=0, init=False)
    _threshold: int = attrs.field(default=LEVELS["info"], init=False)
    _write: Callable[[LogEntry], bool] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.configure("auto", "info")

    @classmethod
    def of_process(cls, environment: Mapping[str, str]) -> "Logs":
        """Return the logs of this process, to the journal or to standard output."""
        return cls(LineStream(1), Journal.at(), is_journal(2, environment))

    def configure(self, form: str, level: str) -> None:
        """Log events of `level` or above in the format `form`: auto, journal, text or json."""
        if form == "auto":
            form = "journal" if self._is_journaled else "text"
        writers = {"journal": self._write_to_journal, "text": self._write_text, "json": self._write_json}
        self._write, self._threshold = writers[form], LEVELS[level]

    @property
    def is_debugging(self) -> bool:
        """Return whether debug events are logged; if not, they need not be formatted."""
        return self._threshold >= LEVELS["debug"]

    def __call__(self, event: LogEvent) -> None:
        """Log an event, or drop it."""
        if LEVELS[level_of(event)] > self._threshold:
            return
        entry = LogEntry.of(event)
        if self._unreported:
            self._log(self._drop_report(entry.at))
        self._log(entry)

    def _log(self, entry: LogEntry) -> None:
        if self._write(entry):
            if entry.event is Event.LOG_DROPPED:
                self._unreported = 0
        elif entry.event is not Event.LOG_DROPPED:
            self.dropped += 1
            self._unreported += 1

    def _drop_report(self, at: float) -> LogEntry:
        message = f"{self._unreported} log entries were dropped: the output was blocked"
        return LogEntry(at=at, level="warn", message=message, event=Event.LOG_DROPPED)

    def _write_to_journal(self, entry: LogEntry) -> bool:
        try:
            self._journal.write(entry)
        except BlockingIOError:
            return False
        except OSError:
            return self._write_text(entry)
        return True

    def _write_text(self, entry: LogEntry) -> bool:
        return self._stream.write(entry.as_text())

    def _write_json(self, entry: LogEntry) -> bool:
        return self._stream.write(entry.as_json())


def is_journal(fd: int, environment: Mapping[str, str]) -> bool:
    """Return whether `fd` is a stream to the journal: JOURNAL_STREAM names it (systemd.exec(5))."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


@cache
def observer() -> Logs:
    """Return the only observer of this process: its log is global, as Twisted's is."""
    return Logs.of_process(os.environ)
