"""Checks of the listeners, as a client sees them: their ports, and one pull through them."""

import ssl
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from mirrord.cli.admin_client import AdminClient
from mirrord.cli.diagnosis import Diagnosis, fail, ok, warn
from mirrord.cli.exit_status import CommandError
from mirrord.cli.formatting import format_size
from mirrord.cli.pull_probe import ProbeFailed, PullProbe
from mirrord.config.config import ListenConfig

_SECONDS = 30.0
_DEFAULT_IMAGE = ("docker.io", "library/hello-world", "latest")
"""The image that is pulled if none is cached: 13 KB."""


def check_port(daemon: AdminClient, listener: ListenConfig, *, is_running: bool) -> Iterator[Diagnosis]:
    """Check that the mirror responds at a listener; if no daemon is running, that the port is free."""
    connection = _connection(daemon, listener)
    if connection is None:
        return
    endpoint = listener.endpoint
    try:
        connection.connect()
    except OSError as error:
        if is_running:
            text = f"{endpoint} does not accept connections: {error.strerror or error}"
            yield fail("port", text, "see the daemon's log; restart it if the endpoint was changed")
        else:
            yield ok("port", f"{endpoint} is free")
        return
    try:
        if not is_running:
            text = f"{endpoint} is in use by another process"
            yield fail("port", text, "stop that process, or configure another endpoint")
        elif not _is_public(listener):
            yield ok("port", f"{endpoint} is open; it accepts trusted clients only")
        elif _is_registry(connection):
            yield ok("port", f"{endpoint} responds as a registry")
        else:
            text = f"{endpoint} does not respond as a registry"
            yield fail("port", text, "ss -ltnp shows which process listens there")
    finally:
        connection.close()


def check_pull(daemon: AdminClient, listeners: Sequence[ListenConfig]) -> Iterator[Diagnosis]:
    """Pull one manifest and its smallest blob through the mirror, and verify their digests."""
    connection = next(filter(None, (_connection(daemon, one) for one in listeners if _is_public(one))), None)
    if connection is None:
        text = "skipped: every listener requires the PROXY protocol or a client certificate"
        yield warn("pull", text, "test with a pull by a real client")
        return
    upstream, repository, tag = _smallest_image(daemon)
    name = f"{upstream}/{repository}:{tag}"
    began = time.monotonic()
    try:
        size = PullProbe(connection, repository, upstream).pull(tag)
        elapsed = time.monotonic() - began
        yield ok("pull", f"{name}: {format_size(size)} in {elapsed:.1f} s, digests match")
    except (OSError, HTTPException, ProbeFailed) as error:
        yield fail("pull", f"{name}: {error or type(error).__name__}", f"mirrord why {name}")
    finally:
        connection.close()


def _connection(daemon: AdminClient, listener: ListenConfig) -> HTTPConnection | None:
    """Return a connection to a listener, opened on first use; None if its address is unknown."""
    address = daemon.listener_address(listener.endpoint)
    if address is None:
        return None
    if not listener.pairs:
        return address.connection(_SECONDS)
    if address.path:
        return None
    # The certificate is valid for other names than loopback's; `check_certificates` checks it.
    context = ssl._create_unverified_context()  # noqa: S323
    return HTTPSConnection(address.host, address.port, timeout=_SECONDS, context=context)


def _is_public(listener: ListenConfig) -> bool:
    """Return whether a listener accepts any client, without PROXY header or client certificate."""
    return not listener.proxy_protocol and listener.client_ca is None


def _is_registry(connection: HTTPConnection) -> bool:
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().getheader("Docker-Distribution-Api-Version") is not None
    except (OSError, HTTPException):
        return False


def _smallest_image(daemon: AdminClient) -> tuple[str, str, str]:
    """Return upstream, repository and tag of the smallest cached image."""
    try:
        cached = [
            (one["bytes"], one["upstream"], one["repository"], tag["tag"])
            for one in daemon.stream("GET", "/repositories")
            for tag in one["tags"]
            if tag["is_held"]
        ]
    except (CommandError, KeyError, TypeError):
        cached = []
    return min(cached)[1:] if cached else _DEFAULT_IMAGE
