"""The systemd journal: log entries with fields in its native protocol (systemd.journal-fields(7))."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import attrs
from logging_journald import JournaldTransport

from mirrord.observe.log_entry import FIELDS, LogEntry

IDENTIFIER = "mirrord"


class JournalFull(Exception):
    """The journal would block, and the reactor cannot wait for it."""


class Transport(Protocol):
    """The connection to the journal."""

    def send(self, pairs: list[tuple[str, object]], /) -> None:
        """Send names and values as one entry."""


@attrs.frozen(eq=False)
class Journal:
    """The journal of this machine."""

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
            JournalFull: It would block.
            OSError: There is no journal.
        """
        message = f"{entry.message}\n{entry.traceback}" if entry.traceback else entry.message
        pairs: list[tuple[str, object]] = [
            ("MESSAGE", message),
            ("PRIORITY", entry.priority),
            ("SYSLOG_IDENTIFIER", IDENTIFIER),
        ]
        if entry.event is not None:
            pairs.append(("MESSAGE_ID", entry.event.value))
        pairs += [(FIELDS[name], value) for name, value in entry.fields.items()]
        try:
            self._transport.send(pairs)
        except BlockingIOError:
            raise JournalFull from None


def is_journal(fd: int, environment: Mapping[str, str]) -> bool:
    """Return whether `fd` is a stream to the journal: JOURNAL_STREAM names it (systemd.exec(5))."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
