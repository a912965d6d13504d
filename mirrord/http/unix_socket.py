"""Unix sockets: a path that outlives whoever listened there.

Twisted keeps a lock file beside the socket, with the pid of its owner in it. After `kill -9` both stay,
and if that pid is anybody's by then (in a container it is ours), the port can never be opened again.
The socket itself knows better: one that nobody listens at refuses a connection.
"""

import re
import socket
from contextlib import suppress
from pathlib import Path

_GAP = re.compile(r"(?<!\\):")


def complete(description: str, mode: str | None = None) -> str:
    """A Unix endpoint's description with what it leaves out: no lock file, and `mode`, who may connect."""
    kind, *arguments = _GAP.split(description)
    said = {argument.partition("=")[0] for argument in arguments if "=" in argument}
    if kind != "unix":
        return description
    defaults = {"lockfile": "0", "mode": mode}
    return ":".join([description, *(f"{k}={v}" for k, v in defaults.items() if v and k not in said)])


def clear(description: str) -> None:
    """Remove the socket of a Unix endpoint if nobody listens at it any more."""
    kind, *arguments = _GAP.split(description)
    if kind != "unix":
        return
    path = Path(arguments[0].removeprefix("address=").replace("\\:", ":"))
    if not path.is_socket():
        return  # a plain file refuses connections too
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
