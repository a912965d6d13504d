"""The access log: one line a request in the combined format, for those whose tools read that.

The disk may be a slow SD card, so lines are gathered and a thread appends them, once a second and
batch after batch. What gathers faster than it can be written is dropped and counted. The file is
opened for each batch: whoever renames it, as logrotate does, needs to tell nobody.

Everything that a client says is escaped, so that nobody writes lines but us. Of a query nothing is
kept but `ns`: what else a client may have put there, a password for one, is no use to a reader.
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

MAX_WAITING_BYTES = 1024 * 1024
"""How much may wait to be written: some 5,000 requests."""

WAIT_SECONDS = 1.0
FILE_MODE = 0o640

CLIENT_LEFT = 499
"""The status of a request whose client left before there was any, as nginx has it."""

_MAX_SAID = 1024
_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\]')
_AUTHORITY = re.compile(r"[a-z]+://[^/?#]*", re.IGNORECASE)
_NAMESPACE = re.compile(r"[A-Za-z0-9.:-]{1,255}")


@attrs.frozen
class AccessRecord:
    """A request that was answered, or not. `at` is wall clock; texts are as the client sent them."""

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
        """The line in the combined format, without its end."""
        moment = datetime.fromtimestamp(self.at, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
        asked = f"{_safe(self.method)} {_safe(_shown(self.target))} {_safe(self.version)}"
        said = f'"{_safe(self.referrer) or "-"}" "{_safe(self.agent) or "-"}"'
        return f'{_safe(self.client)} - - [{moment}] "{asked}" {self.status} {self.sent_bytes} {said}'


@attrs.define(eq=False)
class AccessLog:
    """Appends lines to the file at `path`, which may be changed at any time; None: to none.

    `in_thread` makes a call elsewhere, and fires when that has returned.
    """

    _clock: IReactorTime
    _in_thread: Callable[[Callable[[Path, bytes], None], Path, bytes], Deferred[None]]
    path: Path | None = None
    dropped: int = attrs.field(default=0, init=False)
    _waiting: list[str] = attrs.field(factory=list, init=False)
    _waiting_bytes: int = attrs.field(default=0, init=False)
    _next: IDelayedCall | None = attrs.field(default=None, init=False)
    _writing: Deferred[None] | None = attrs.field(default=None, init=False)
    _is_failing: bool = attrs.field(default=False, init=False)
    _log = Logger()

    def note(self, access: AccessRecord) -> None:
        """Write a line soon."""
        if self.path is None:
            return
        line = f"{access}\n"
        if self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
            self.dropped += 1
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if self._next is None and self._writing is None:
            self._next = self._clock.callLater(WAIT_SECONDS, self._write)

    def start(self) -> None:
        """Try whether the file can be written: better told now than with the first client."""
        if self._next is None and self._writing is None:
            self._write()

    def stop(self) -> Deferred[None]:
        """Write what waits; fires when it is written, or cannot be."""
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
        lines, self._waiting, self._waiting_bytes = self._waiting, [], 0
        path, batch = self.path, "".join(lines).encode("ascii")
        self._writing = succeed(None) if path is None else self._in_thread(append, path, batch)
        self._writing.addCallbacks(self._wrote, self._failed, errbackArgs=(len(lines),))

    def _wrote(self, _: None) -> None:
        self._is_failing = False
        self._go_on()

    def _failed(self, failure: Failure, count: int) -> None:
        self.dropped += count
        if not self._is_failing:
            reason = getattr(failure.value, "strerror", None) or type(failure.value).__name__
            self._log.error(
                "the access log {path} cannot be written: {reason}", path=str(self.path), reason=reason
            )
        self._is_failing = True
        self._go_on()

    def _go_on(self) -> None:
        self._writing = None
        if self._waiting:
            self._next = self._clock.callLater(WAIT_SECONDS, self._write)


def append(path: Path, batch: bytes) -> None:
    """Add to a file, which is made where it is not there.

    Raises:
        OSError: It cannot be written, or is a pipe that nobody reads fast enough.
    """
    # A pipe without a reader would keep its thread for ever, and the daemon from its end.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, flags, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(batch)


def _shown(target: str) -> str:
    """A request's target without what may be secret: a user in front of the host, and the query but `ns`."""
    path, _, query = _AUTHORITY.sub("", target, count=1).partition("?")
    namespaces = [value for name, value in parse_qsl(query[:_MAX_SAID]) if name == "ns"]
    if len(namespaces) == 1 and _NAMESPACE.fullmatch(namespaces[0]):
        return f"{path}?ns={namespaces[0]}"
    return path


def _safe(text: str) -> str:
    """What cannot end a quoted text or a line, as nginx writes it."""
    return _UNSAFE.sub(
        lambda found: "".join(f"\\x{byte:02X}" for byte in found[0].encode()), text[:_MAX_SAID]
    )
