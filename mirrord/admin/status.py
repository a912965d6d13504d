"""Status: what the daemon is doing, at a glance, as JSON takes it."""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryKey


@attrs.frozen
class Holdings:
    """What the store holds: bytes on the disk, blobs and manifests; and its bound, if it has one."""

    bytes: int
    entries: int
    max_bytes: int | None


@attrs.frozen
class HostedHoldings:
    """What hosted repositories hold: bytes on the disk with those of open uploads, blobs and manifests."""

    bytes: int
    entries: int
    uploads: int


@attrs.frozen
class LastSweep:
    """What the last sweep evicted; `started_at` is in Unix seconds, `forgotten` counts links and tags.

    `hosted_entries` and `hosted_bytes` are the content that no repository held any more.
    """

    started_at: float
    seconds: float
    entries: int
    bytes: int
    forgotten: int
    hosted_entries: int
    hosted_bytes: int


@attrs.frozen
class ListenerStatus:
    """A port that clients are served at; `certificates` expire at these Unix seconds, by name.

    `address` is host and port, once it listens at such; a host of zeros is every one.
    """

    endpoint: str
    connections: int
    is_tls: bool = False
    certificates: Mapping[str, float] = attrs.field(factory=dict)
    trouble: str | None = None
    address: str | None = None


@attrs.frozen
class LogStatus:
    """How many lines of the log and of the access log were dropped since the start."""

    dropped: int
    access_dropped: int


@attrs.frozen(eq=False, kw_only=True)
class Status:
    """What `/status` answers. Every callable answers from memory; what they give is frozen attrs values.

    `saved` is what clients had and upstreams were not asked for since the start: pulls, and bytes.
    """

    version: str
    clock: Callable[[], float]
    store: Callable[[], object]
    hosted: Callable[[], object]
    saved: Callable[[], object]
    last_sweep: Callable[[], object | None]
    listeners: Callable[[], Iterable[object]]
    upstreams: Callable[[], Iterable[object]]
    downloads: Callable[[], Iterable[object]]
    logs: Callable[[], object]
    _started: float = attrs.field(
        init=False, default=attrs.Factory(lambda status: status.clock(), takes_self=True)
    )

    def __call__(self) -> dict[str, object]:
        """All of it, as it is now."""
        return {
            "version": self.version,
            "uptime_seconds": int(self.clock() - self._started),
            "store": _plain(self.store()),
            "hosted": _plain(self.hosted()),
            "saved": _plain(self.saved()),
            "last_sweep": _plain(self.last_sweep()),
            "listeners": [_plain(listener) for listener in self.listeners()],
            "upstreams": [_plain(upstream) for upstream in self.upstreams()],
            "downloads": [_plain(download) for download in self.downloads()],
            "logs": _plain(self.logs()),
        }


def _plain(value: Any) -> object:
    """A frozen value as a table of strings and numbers."""
    return None if value is None else attrs.asdict(value, value_serializer=_word)


def _word(_instance: Any, _attribute: Any, value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Digest | RepositoryKey) else value
