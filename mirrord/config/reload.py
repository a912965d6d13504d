"""Reload rules: which keys of a new configuration take effect in a running daemon.

All do, except those that are bound when the daemon starts: the folders of the store and of hosted
repositories, the ports, and what applies to a connection before its first request. These keep their old
values until a restart, and are named in the log. A listener is the same as long as its endpoint and its
position in the file are.
"""

from collections.abc import Iterator

import attrs

from mirrord.config.config import Config, ListenConfig

_BOUND = ("endpoint", "certificate", "key", "certificates", "client_ca", "proxy_protocol", "trusted_proxies")
"""Keys of `[[listen]]` that need a restart; the files that they name are read again nevertheless."""


def keys_needing_restart(running: Config, new: Config) -> Iterator[str]:
    """Yield the paths of the keys that differ and need a restart."""
    if running.store.path != new.store.path:
        yield "store.path"
    if running.hosted.path != new.hosted.path:
        yield "hosted.path"
    if running.admin.endpoint != new.admin.endpoint:
        yield "admin.endpoint"
    if running.admin.socket != new.admin.socket:
        yield "admin.socket"
    if len(running.listen) != len(new.listen):
        yield "listen"
        return
    for index, (before, after) in enumerate(zip(running.listen, new.listen, strict=True)):
        for key in _BOUND:
            if getattr(before, key) != getattr(after, key):
                yield f"listen[{index}].{key}"


def merge(running: Config, new: Config) -> Config:
    """Return the configuration in effect after a reload: `new`, except for keys that need a restart."""
    listeners = running.listen
    if len(running.listen) == len(new.listen):
        listeners = tuple(map(_merge_listener, running.listen, new.listen))
    return attrs.evolve(
        new,
        store=attrs.evolve(new.store, path=running.store.path),
        hosted=attrs.evolve(new.hosted, path=running.hosted.path),
        admin=running.admin,
        listen=listeners,
    )


def _merge_listener(running: ListenConfig, new: ListenConfig) -> ListenConfig:
    return attrs.evolve(new, **{key: getattr(running, key) for key in _BOUND})
