"""Addresses: from where a listener listens to how it is reached."""

import re
import socket
from http.client import HTTPConnection
from typing import Self
from urllib.parse import urlsplit

import attrs

from mirrord.config.endpoints import EndpointDescription

_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - we do not listen


class UnixConnection(HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the file."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(self.timeout)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            raise
        self.sock = connection


@attrs.frozen
class Address:
    """A host and a port, or the path of a socket file.

    Who listens at all addresses (`is_everywhere`) is reached at loopback.
    """

    host: str
    port: int
    path: str = ""
    is_everywhere: bool = attrs.field(default=False, eq=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a Twisted server endpoint or an http URL.

        Raises:
            ValueError: It is neither, or one that does not say where it is reached.
        """
        if text.startswith("http://"):
            url = urlsplit(text)
            if not url.hostname or url.path.strip("/") or url.query:
                raise ValueError("http://HOST:PORT is needed")
            return cls._of(url.hostname, 80 if url.port is None else url.port)
        endpoint = EndpointDescription.parse(text)
        if endpoint.kind == "unix" and (path := endpoint.argument("address", 0)):
            return cls("", 0, path)
        port = endpoint.argument("port", 0)
        if endpoint.kind not in {"tcp", "tcp6"} or not re.fullmatch("[0-9]{1,5}", port, re.ASCII):
            raise ValueError("tcp:PORT, unix:PATH or http://HOST:PORT is needed")
        host = endpoint.argument("interface", 1) or ("::" if endpoint.kind == "tcp6" else "")
        return cls._of(host, int(port))

    @classmethod
    def _of(cls, host: str, port: int) -> Self:
        if not _is_host(host):
            raise ValueError("its host has no name that could be looked up")
        return cls(_EVERYWHERE.get(host, host), port, is_everywhere=host in _EVERYWHERE)

    def connection(self, timeout: float) -> HTTPConnection:
        """An HTTP connection to be made on first use; `timeout` in seconds bounds every wait."""
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


def _is_host(host: str) -> bool:
    """Whether a resolver takes it: Python's raises what is no OSError."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return _BLANK.search(host) is None
