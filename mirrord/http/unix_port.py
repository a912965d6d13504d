"""Unix sockets: the mode of the file decides who may connect, so it has to be right at every moment.

Twisted creates the file with the umask of the process and then sets its mode, by name, to 0666 even where
systemd has created it with a mode of its own; and at the end it deletes the file, even if it is systemd's.
Here the umask is set for the call of bind(2), and what systemd has created is left alone.

The path outlives the process that listens there. Twisted keeps a lock file beside it with the pid of its
owner. After `kill -9` both remain, and if that pid belongs to another process by then (in a container it is
our own), the port can never be opened again. Here a socket without a listener, which refuses connections, is
replaced. Between bind(2) and listen(2) a socket of ours refuses connections, too: so processes that start at
the same time take turns, by an flock(2) that the kernel releases however they end.
"""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twisted.internet import tcp, unix
from twisted.python.failure import Failure

from mirrord.http.site import MirrorSite

BACKLOG = 1024
"""Connections that the kernel accepts ahead of us; Twisted's 50 is less than one cluster that starts."""

_LOCK_MODE = 0o600


class UnixPort(unix.Port):
    """A port around a socket that listens already; at the end it deletes the file at `path`."""

    def __init__(self, listening: socket.socket, site: MirrorSite, reactor: Any, path: Path | None) -> None:
        super().__init__(listening.getsockname(), site, reactor=reactor)
        self._site = site
        self._listening = listening
        self._path = path

    def startListening(self) -> None:
        """Accept connections."""
        self._site.doStart()
        self.socket = self._listening
        self.fileno = self.socket.fileno  # type: ignore[method-assign]  # as Twisted's own ports do
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        tcp.Port.connectionLost(self, reason)


def listen_at(path: Path, mode: int) -> socket.socket:
    """Return a socket that listens at `path`, and whose file never had another mode; a stale one is replaced.

    Raises:
        OSError: A process listens there, something else than a socket is there, or the folder refuses.
    """
    with _turn(path):
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        umask = os.umask(0o777 & ~mode)
        try:
            listening.bind(str(path))
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
        finally:
            os.umask(umask)
    return listening


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Exclude other processes of ours that start to listen at this path."""
    lock = path.with_name(f"{path.name}.lock")
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _LOCK_MODE)
    try:
        if not _acquire(fd, lock):
            raise OSError(errno.EADDRINUSE, "another process is about to listen there")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(fd)


def _acquire(fd: int, lock: Path) -> bool:
    """Lock a file; return False if another process has, or had, and has deleted the file since."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), lock.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove_stale(path: Path) -> None:
    """Remove the socket at a path if no process listens there.

    Raises:
        OSError: A process does, or it is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EADDRINUSE, "there is something else than a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        with suppress(BlockingIOError):  # its queue is full
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
    raise OSError(errno.EADDRINUSE, "another process listens there")
