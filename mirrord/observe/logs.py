"""Logs: the observer of this daemon, for twistd and for `--logger=mirrord.observe.logs.observer`.

What is told, and how, is the operator's to say, and may change while we run. What cannot be told
without waiting is dropped and counted; the next entry that goes through is preceded by how many.
"""

import os
from collections.abc import Callable, Mapping
from functools import cache

import attrs
from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from mirrord.observe.entry import LEVELS, LogEntry, level_of
from mirrord.observe.events import Event
from mirrord.observe.journal import Journal, JournalFull, is_journal
from mirrord.observe.lines import LineStream, json_line, text_line


@implementer(ILogObserver)
@attrs.define(eq=False)
class Logs:
    """Tells what happens, from some level on. `is_journaled` is what the format `auto` goes by."""

    _stream: LineStream
    _journal: Journal
    _is_journaled: bool
    dropped: int = attrs.field(default=0, init=False)
    _untold: int = attrs.field(default=0, init=False)
    _least: int = attrs.field(default=LEVELS["info"], init=False)
    _write: Callable[[LogEntry], bool] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.configure("auto", "info")

    @classmethod
    def of_process(cls, environment: Mapping[str, str]) -> "Logs":
        """Logs to the journal, or to the standard output."""
        return cls(LineStream(1), Journal.at(), is_journal(2, environment))

    def configure(self, form: str, level: str) -> None:
        """Tell from `level` on, in the `form` of `[log] format`: auto, journal, text or json."""
        if form == "auto":
            form = "journal" if self._is_journaled else "text"
        ways = {"journal": self._to_journal, "text": self._as_text, "json": self._as_json}
        self._write, self._least = ways[form], LEVELS[level]

    @property
    def is_debugging(self) -> bool:
        """Whether what is at debug is told; where it is not, much of it need not be put into words."""
        return self._least >= LEVELS["debug"]

    def __call__(self, event: LogEvent) -> None:
        """Tell an event, now or never."""
        if LEVELS[level_of(event)] > self._least:
            return
        entry = LogEntry.of(event)
        if self._untold:
            self._tell(self._apology(entry.at))
        self._tell(entry)

    def _tell(self, entry: LogEntry) -> None:
        if self._write(entry):
            if entry.event is Event.LOG_DROPPED:
                self._untold = 0
        elif entry.event is not Event.LOG_DROPPED:
            self.dropped += 1
            self._untold += 1

    def _apology(self, at: float) -> LogEntry:
        message = f"{self._untold} log entries were dropped: nobody took them"
        return LogEntry(at, "warn", message, event=Event.LOG_DROPPED)

    def _to_journal(self, entry: LogEntry) -> bool:
        try:
            self._journal.write(entry)
        except JournalFull:
            return False
        except OSError:
            return self._as_text(entry)
        return True

    def _as_text(self, entry: LogEntry) -> bool:
        return self._stream.write(text_line(entry))

    def _as_json(self, entry: LogEntry) -> bool:
        return self._stream.write(json_line(entry))


@cache
def observer() -> Logs:
    """The one observer of this process: its log is global, as Twisted's is."""
    return Logs.of_process(os.environ)
