"""HTTP client of the daemon's admin listener and of its socket for commands (docs/operations.md).

Commands run sequentially, so this uses `http.client` and no reactor.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from grp import getgrgid
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import attrs

from mirrord.cli.addresses import Address
from mirrord.cli.exit_status import CommandError, DaemonUnreachable, NotFound
from mirrord.oci.names import RepositoryKey, RepositoryName

_CONNECT_SECONDS = 5.0
_RESPONSE_SECONDS = 60.0
_STREAM_IDLE_SECONDS = 600.0
"""Longest pause in a stream: no event is sent while one large file on a slow disk is hashed."""

_MAX_RESPONSE_BYTES = 16 * 1024 * 1024
_MAX_LINE_BYTES = 128 * 1024 * 1024
"""Of a repository with 200,000 tags of the longest names, twice."""

Document: TypeAlias = dict[str, Any]


@attrs.frozen
class AdminClient:
    """Sends requests to a daemon, which may not be running.

    Methods raise `DaemonUnreachable`, `NotFound` for a 404, or `CommandError` for other failures.
    """

    address: Address

    def is_running(self) -> bool:
        """Return whether a daemon accepts connections, from us or only from others."""
        try:
            self._connect().close()
        except CommandError as error:
            return not isinstance(error, DaemonUnreachable)
        return True

    def fetch(self, method: str, path: str, **query: str) -> Document:
        """Return the document at `path`, or the result of a command."""
        with self._open(method, path, query, timeout=_RESPONSE_SECONDS) as response:
            return _read(response, self.address)

    def readiness(self) -> dict[str, str]:
        """Return the result of each readiness check by name: `ok` or the problem."""
        with self._open("GET", "/readyz", {}, timeout=_RESPONSE_SECONDS, allowed=(503,)) as response:
            checks = _read(response, self.address).get("checks", {})
        return {str(name): str(result) for name, result in checks.items()}

    def listener_address(self, endpoint: str) -> Address | None:
        """Return the address of a listener; None if neither its endpoint nor the daemon reports one.

        The port of a `systemd:` endpoint is known to the daemon only.
        """
        try:
            return Address.parse(endpoint)
        except ValueError:
            pass
        try:
            listeners = self.fetch("GET", "/status").get("listeners", [])
            bound = next(one["address"] for one in listeners if one["endpoint"] == endpoint)
            return Address.parse(f"http://{bound}")
        except (CommandError, LookupError, StopIteration, ValueError):
            return None

    def stream(self, method: str, path: str, **query: str) -> Iterator[Document]:
        """Yield the documents of a response of one JSON value per line, as they arrive."""
        with self._open(method, path, query, timeout=_STREAM_IDLE_SECONDS) as response:
            while line := response.readline(_MAX_LINE_BYTES):
                yield _parse(line, self.address)

    def events(self, path: str, **query: str) -> Iterator[Document]:
        """Execute a command and yield its events, up to the last one, `done` or `failed`."""
        for event in self.stream("POST", path, **query):
            yield event
            if event.get("event") in {"done", "failed"}:
                return
        raise DaemonUnreachable(f"lost connection to the daemon at {self.address}: the stream ended early")

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        *,
        timeout: float,
        allowed: tuple[int, ...] = (),
    ) -> Iterator[HTTPResponse]:
        """Open a response whose status is below 400 or among the `allowed`."""
        connection = self._connect()
        try:
            connection.sock.settimeout(timeout)
            # An argument may be bytes that are not UTF-8; the daemon validates them.
            target = f"{path}?{urlencode(query, errors='surrogateescape')}" if query else path
            connection.request(method, target)
            response = connection.getresponse()
            if response.status >= 400 and response.status not in allowed:
                raise _error(response, self.address)
            yield response
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise DaemonUnreachable(f"lost connection to the daemon at {self.address}: {reason}") from None
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        """Return an open connection."""
        connection = self.address.connection(_CONNECT_SECONDS)
        try:
            connection.connect()
        except PermissionError:
            who = f"sudo, or as a member of the group {_group(Path(self.address.path))}"
            raise CommandError(
                f"{self.address} does not accept your commands; try again with {who}"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            advice = "; start it, or name its socket with --admin" if self.address.path else ""
            raise DaemonUnreachable(
                f"cannot connect to the daemon at {self.address}: {reason}{advice}"
            ) from None
        return connection


def repository_key(document: Document) -> RepositoryKey:
    """Return the key of the repository that a document describes."""
    return RepositoryKey(str(document.get("upstream")), RepositoryName(str(document.get("repository"))))


def _read(response: HTTPResponse, address: Address) -> Document:
    return _parse(response.read(_MAX_RESPONSE_BYTES), address)


def _parse(body: bytes, address: Address) -> Document:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise CommandError(f"unexpected response from {address}: not mirrord, or an incompatible version")
    return document


def _group(path: Path) -> str:
    """Return the group of a socket; that of its folder, if that is all we may see."""
    try:
        status = path.stat()
    except OSError:
        status = path.parent.stat()
    try:
        return getgrgid(status.st_gid).gr_name
    except KeyError:
        return str(status.st_gid)


def _error(response: HTTPResponse, address: Address) -> CommandError:
    """Return the error of a response (distribution-spec, "Error codes")."""
    errors = _read(response, address).get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    message = str(first.get("message") or f"the daemon responded with status {response.status}")
    detail = first.get("detail")
    line = f"{message}: {detail}" if isinstance(detail, str) and detail else message
    return NotFound(line) if response.status == 404 else CommandError(line)
