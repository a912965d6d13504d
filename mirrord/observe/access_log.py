"""The access log: one line per request in the combined format, for the tools that read it.

The disk may be a slow SD card, so lines are gathered, and a thread appends them once a second, one batch
after another. What gathers faster than it can be written is dropped and counted. The file is opened for
each batch, so logrotate can rename it without notifying the daemon.

Everything that a client sends is escaped, so that it cannot forge lines. Of a query only `ns` is logged:
anything else in it, a password for one, is of no use to a reader.
"""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

MAX_PENDING_BYTES = 1024 * 1024
"""The maximum size of pending lines: some 5,000 requests."""

WAIT_SECONDS = 1.0
FILE_MODE = 0o640

CLIENT_LEFT = 499
"""The status of a request whose client disconnected before the response, as in nginx."""

_MAX_TEXT = 1024
_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\]')
_AUTHORITY = re.compile(r"(?<![a-z])[a-z]+://[^/?#]*", re.IGNORECASE)
"""Anchored at a word's first letter: otherwise a path of one long word takes quadratic time."""
_NAMESPACE = re.compile(r"[A-Za-z0-9.:-]{1,255}")


@attrs.frozen(kw_only=True)
class AccessRecord:
    """A request that ended, answered or not. `at` is wall clock; texts are as the client sent them."""

    client: str
    at: float
    method: str
    target: str
    version: str
    status: int
    sent_bytes: int
    referrer: str = ""
    agent: str = ""

    def __str__(self) -> str:
        """Return the line in the combined format, without a newline."""
        moment = datetime.fromtimestamp(self.at, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
        request = f"{_safe(self.method)} {_safe(_redacted(self.target))} {_safe(self.version)}"
        headers = f'"{_safe(self.referrer) or "-"}" "{_safe(self.agent) or "-"}"'
        return f'{_safe(self.client)} - - [{moment}] "{request}" {self.status} {self.sent_bytes} {headers}'


@attrs.define(eq=False)
class AccessLog:
    """Appends lines to the file at `path`, which may change at any time; None: no file.

    `run_in_thread` makes a call in a thread, and fires when that has returned.
    """

    _clock: IReactorTime
    _run_in_thread: Callable[[Callable[[Path, bytes], None], Path, bytes], Deferred[None]]
    path: Path | None = None
    dropped: int = attrs.field(default=0, init=False)
    _pending: list[str] = attrs.field(factory=list, init=False)
    _pending_bytes: int = attrs.field(default=0, init=False)
    _next: IDelayedCall | None = attrs.field(default=None, init=False)
    _writing: Deferred[None] | None = attrs.field(default=None, init=False)
    _is_failing: bool = attrs.field(default=False, init=False)
    _log = Logger()

    def add(self, record: AccessRecord) -> None:
        """Write a line soon."""
        if self.path is None:
            return
        line = f"{record}\n"
        if self._pending_bytes + len(line) > MAX_PENDING_BYTES:
            self.dropped += 1
            return
        self._pending.append(line)
        self._pending_bytes += len(line)
        if self._next is None and self._writing is None:
            self._next = self._clock.callLater(WAIT_SECONDS, self._write)

    def start(self) -> None:
        """Open the file once, so that an error is logged now and not with the first client."""
        if self._next is None and self._writing is None:
            self._write()

    def stop(self) -> Deferred[None]:
        """Write what is pending; fires when it is written, or failed."""
        if self._next is not None:
            self._next.cancel()
            self._write()
        if self._writing is None:
            return succeed(None)
        stopped: Deferred[None] = Deferred()

        def stop_again(_: None) -> None:
            self.stop().chainDeferred(stopped)

        self._writing.addCallback(stop_again)
        return stopped

    def _write(self) -> None:
        self._next = None
        lines, self._pending, self._pending_bytes = self._pending, [], 0
        path, batch = self.path, "".join(lines).encode("ascii")
        self._writing = succeed(None) if path is None else self._run_in_thread(append, path, batch)
        self._writing.addCallbacks(self._written, self._failed, errbackArgs=(len(lines),))

    def _written(self, _: None) -> None:
        self._is_failing = False
        self._schedule_next()

    def _failed(self, failure: Failure, count: int) -> None:
        self.dropped += count
        if not self._is_failing:
            reason = getattr(failure.value, "strerror", None) or type(failure.value).__name__
            self._log.error("cannot write access log {path}: {reason}", path=str(self.path), reason=reason)
        self._is_failing = True
        self._schedule_next()

    def _schedule_next(self) -> None:
        self._writing = None
        if self._pending:
            self._next = self._clock.callLater(WAIT_SECONDS, self._write)


def append(path: Path, batch: bytes) -> None:
    """Append to a file, which is created if it does not exist.

    Raises:
        OSError: It cannot be written, or is a pipe without a reader, or without room.
    """
    # A pipe without a reader would block its thread for ever, and prevent the daemon from exiting.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, flags, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(batch)


def _redacted(target: str) -> str:
    """Return a request target without anything secret: the authority, and all of the query but `ns`."""
    path, _, query = _AUTHORITY.sub("", target, count=1).partition("?")
    namespaces = [value for name, value in parse_qsl(query[:_MAX_TEXT]) if name == "ns"]
    if len(namespaces) == 1 and _NAMESPACE.fullmatch(namespaces[0]):
        return f"{path}?ns={namespaces[0]}"
    return path


def _safe(text: str) -> str:
    """Escape what could end a quoted text or a line, as nginx does."""
    return _UNSAFE.sub(
        lambda found: "".join(f"\\x{byte:02X}" for byte in found[0].encode()), text[:_MAX_TEXT]
    )
