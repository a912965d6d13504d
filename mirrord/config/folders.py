"""Folders that depend on the environment: those that systemd assigns to a service, and those of a user.

Commands that need no more of the configuration import this alone: the parser takes long to import.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

_COMMANDS = "command"
"""The name of the Unix socket for the operator's commands."""


def store_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the default folder of the store: the cache folder of the service or of the user, if any."""
    # A relative XDG_CACHE_HOME is ignored (XDG base directories).
    cache = environment.get("XDG_CACHE_HOME", "")
    home = environment.get("HOME", "")
    if (assigned := _assigned(environment, "CACHE_DIRECTORY")) is not None:
        return assigned
    if cache.startswith("/"):
        return Path(cache, "mirrord")
    return Path(home, ".cache", "mirrord") if home else None


def state_folder(environment: Mapping[str, str], store: Path) -> Path:
    """Return the folder of state that is not content: the one assigned by systemd, else the store's."""
    return _assigned(environment, "STATE_DIRECTORY") or store


def command_sockets(environment: Mapping[str, str], store: Path) -> Iterator[Path]:
    """Yield the default paths of the socket for commands: that of this environment, then those without it.

    A command looks for the socket of a daemon whose unit may lack the runtime folder, or the state folder.
    """
    runtime = _assigned(environment, "RUNTIME_DIRECTORY")
    for folder in dict.fromkeys(filter(None, (runtime, state_folder(environment, store), store))):
        yield folder / _COMMANDS


def _assigned(environment: Mapping[str, str], variable: str) -> Path | None:
    """Return the first of the folders that systemd has assigned."""
    first = environment.get(variable, "").partition(":")[0]
    return Path(first) if first else None
