"""Addresses to connect to, parsed from the endpoints that a daemon listens on."""

import os
import re
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import attrs

from mirrord.config.addresses import EndpointDescription

_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - connected to, not bound
_EXTERNAL = ("192.0.2.1", 9)
"""A documentation address (RFC 5737): connecting a datagram socket to it selects a route, sends nothing."""


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket.

    A symbolic link is not followed: root connects to a socket of the service's user, who could otherwise
    redirect the command to any socket of this host.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        fd = os.open(self._path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(self.timeout)
        try:
            connection.connect(f"/proc/self/fd/{fd}")
        except OSError:
            connection.close()
            raise
        finally:
            os.close(fd)
        self.sock = connection


@attrs.frozen
class Address:
    """A host and a port, or the path of a Unix socket.

    A listener on all interfaces (`is_wildcard`) is reached at the loopback address.
    """

    host: str
    port: int
    path: str = ""
    is_wildcard: bool = attrs.field(default=False, eq=False, kw_only=True)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the path of a Unix socket, a Twisted server endpoint or an http URL.

        Raises:
            ValueError: It is none of them, or an endpoint without an address, such as `systemd:`.
        """
        if "/" in text.partition(":")[0]:
            return cls.of_socket(Path(text))
        if text.startswith("http://"):
            url = urlsplit(text)
            if not url.hostname or url.path.strip("/") or url.query:
                raise ValueError("expected http://HOST:PORT")
            return cls._of(url.hostname, 80 if url.port is None else url.port)
        endpoint = EndpointDescription.parse(text)
        if endpoint.socket_path is not None:
            return cls.of_socket(endpoint.socket_path)
        port = endpoint.argument("port", 0)
        if endpoint.kind not in {"tcp", "tcp6"} or not re.fullmatch("[0-9]{1,5}", port, re.ASCII):
            raise ValueError("expected the path of a socket, tcp:PORT or http://HOST:PORT")
        host = endpoint.argument("interface", 1) or ("::" if endpoint.kind == "tcp6" else "")
        return cls._of(host, int(port))

    @classmethod
    def of_socket(cls, path: Path) -> Self:
        """Return the address of a Unix socket."""
        return cls("", 0, str(path))

    @classmethod
    def _of(cls, host: str, port: int) -> Self:
        if not _is_host(host):
            raise ValueError("invalid host name")
        return cls(_WILDCARDS.get(host, host), port, is_wildcard=host in _WILDCARDS)

    def connection(self, timeout: float) -> HTTPConnection:
        """Return a connection that is opened on first use; `timeout` in seconds bounds every wait."""
        if self.path:
            return UnixConnection(self.path, timeout)
        return HTTPConnection(self.host, self.port, timeout=timeout)

    @property
    def authority(self) -> str:
        """Host and port, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"http://{self.authority}"


def outgoing_address() -> str:
    """Return the local address of this host's default route; loopback if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_EXTERNAL)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _is_host(host: str) -> bool:
    """Return whether a host can be looked up; `getaddrinfo` raises other errors than OSError if not."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return _BLANK.search(host) is None
