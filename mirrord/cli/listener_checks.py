"""The doctor's look at the listeners, from where a client stands: their ports, and one pull through them."""

import ssl
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from mirrord.cli.admin_client import AdminClient
from mirrord.cli.diagnosis import Diagnosis, fail, ok, warn
from mirrord.cli.exit_status import CommandError
from mirrord.cli.formatting import format_size
from mirrord.cli.pull_probe import ProbeFailed, PullProbe
from mirrord.cli.seen import address_of
from mirrord.config.config import ListenConfig

_SECONDS = 30.0
_SMALLEST = ("docker.io", "library/hello-world", "latest")
"""What is pulled where nothing is held: 13 KB."""


def check_port(daemon: AdminClient, listener: ListenConfig, *, is_running: bool) -> Iterator[Diagnosis]:
    """Whether the mirror answers at a listener; while no daemon runs, whether the port is free for it."""
    connection = connect_to(daemon, listener)
    if connection is None:
        return
    endpoint = listener.endpoint
    try:
        connection.connect()
    except OSError as error:
        advice = "its log says why; restart it, if the endpoint was changed"
        text = f"{endpoint} does not answer: {error.strerror or error}"
        yield fail("port", text, advice) if is_running else ok("port", f"{endpoint} is free")
        return
    try:
        if not is_running:
            yield fail("port", f"somebody else listens at {endpoint}", "end it, or name another endpoint")
        elif not _is_open(listener):
            yield ok("port", f"{endpoint} listens, and answers only to whom it trusts")
        elif _is_registry(connection):
            yield ok("port", f"{endpoint} answers as a registry")
        else:
            yield fail("port", f"what answers at {endpoint} is no registry", "ss -ltnp says who has it")
    finally:
        connection.close()


def check_pull(daemon: AdminClient, listeners: Sequence[ListenConfig]) -> Iterator[Diagnosis]:
    """One manifest and its smallest blob through the mirror, their digests compared."""
    connection = next(filter(None, (connect_to(daemon, one) for one in listeners if _is_open(one))), None)
    if connection is None:
        yield warn("pull", "not tried: no listener takes a client such as this", "pull from a real client")
        return
    upstream, repository, tag = _choose(daemon)
    name = f"{upstream}/{repository}:{tag}"
    began = time.monotonic()
    try:
        size = PullProbe(connection, repository, upstream).pull(tag)
        yield ok("pull", f"{name}: {format_size(size)} in {time.monotonic() - began:.1f} s, digests right")
    except (OSError, HTTPException, ProbeFailed) as error:
        yield fail("pull", f"{name}: {error or type(error).__name__}", f"mirrord why {name}")
    finally:
        connection.close()


def connect_to(daemon: AdminClient, listener: ListenConfig) -> HTTPConnection | None:
    """A connection to a listener, made on first use; None where nobody says where it is."""
    address = address_of(listener, daemon)
    if address is None:
        return None
    if not listener.pairs:
        return address.connection(_SECONDS)
    if address.path:
        return None
    # Whether clients can trust its certificate is asked elsewhere: it is for other names than loopback's.
    context = ssl._create_unverified_context()  # noqa: S323
    return HTTPSConnection(address.host, address.port, timeout=_SECONDS, context=context)


def _is_open(listener: ListenConfig) -> bool:
    """Whether any client may speak to it, without an introduction."""
    return not listener.proxy_protocol and listener.client_ca is None


def _is_registry(connection: HTTPConnection) -> bool:
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().getheader("Docker-Distribution-Api-Version") is not None
    except (OSError, HTTPException):
        return False


def _choose(daemon: AdminClient) -> tuple[str, str, str]:
    """The smallest image that is held: upstream, repository, tag."""
    try:
        held = [
            (one["bytes"], one["upstream"], one["repository"], tag["tag"])
            for one in daemon.stream("GET", "/repositories")
            for tag in one["tags"]
            if tag["is_held"]
        ]
    except (CommandError, KeyError, TypeError):
        held = []
    return min(held)[1:] if held else _SMALLEST
