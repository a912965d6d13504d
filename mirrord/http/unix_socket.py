"""Unix sockets: a path that outlives whoever listened there.

Twisted keeps a lock file beside the socket, with the pid of its owner in it. After `kill -9` both stay,
and if that pid is anybody's by then (in a container it is ours), the port can never be opened again.
The socket itself knows better: one that nobody listens at refuses a connection.
"""

import socket
from contextlib import suppress
from pathlib import Path

from mirrord.config.endpoints import EndpointDescription


def complete(description: str, mode: str | None = None) -> str:
    """A Unix endpoint's description with what it leaves out: no lock file, and `mode`, who may connect."""
    endpoint = EndpointDescription.parse(description)
    if endpoint.kind != "unix":
        return description
    defaults = {"lockfile": "0", "mode": mode}
    missing = [f"{name}={value}" for name, value in defaults.items() if value and name not in endpoint.named]
    return ":".join([description, *missing])


def clear(description: str) -> None:
    """Remove the socket of a Unix endpoint if nobody listens at it any more."""
    endpoint = EndpointDescription.parse(description)
    if endpoint.kind != "unix":
        return
    path = Path(endpoint.argument("address", 0))
    if not path.is_socket():
        return  # a plain file refuses connections too
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
