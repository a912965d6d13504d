"""Reload: what of a new configuration takes effect in a daemon that runs.

Everything does, but for what is bound when the daemon starts: the store's folder, the ports, and what
greets a connection there before there is a request. These keep their old value until a restart, and
the log says so by name. A listener counts as the same while its endpoint and its place in the file are.
"""

from collections.abc import Iterator

import attrs

from mirrord.config.config import Config, ListenConfig

_BOUND = ("endpoint", "certificate", "key", "certificates", "client_ca", "proxy_protocol", "trusted_proxies")
"""Keys of `[[listen]]`; the files that they name are read again all the same."""


def bound_changes(running: Config, wanted: Config) -> Iterator[str]:
    """The keys that differ and need a restart, as paths."""
    if running.store.path != wanted.store.path:
        yield "store.path"
    if running.admin != wanted.admin:
        yield "admin.endpoint"
    if len(running.listen) != len(wanted.listen):
        yield "listen"
        return
    for index, (old, new) in enumerate(zip(running.listen, wanted.listen, strict=True)):
        for key in _BOUND:
            if getattr(old, key) != getattr(new, key):
                yield f"listen[{index}].{key}"


def merge(running: Config, wanted: Config) -> Config:
    """The configuration that is in effect after a reload: `wanted`, but for what needs a restart."""
    listeners = running.listen
    if len(running.listen) == len(wanted.listen):
        listeners = tuple(map(_merge_listener, running.listen, wanted.listen))
    return attrs.evolve(
        wanted,
        store=attrs.evolve(wanted.store, path=running.store.path),
        admin=running.admin,
        listen=listeners,
    )


def _merge_listener(running: ListenConfig, wanted: ListenConfig) -> ListenConfig:
    return attrs.evolve(wanted, **{key: getattr(running, key) for key in _BOUND})
