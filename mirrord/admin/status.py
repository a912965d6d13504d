"""The status of the daemon: `GET /status` as a JSON document."""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import attrs

from mirrord.admin.sweep import last_sweep_document
from mirrord.gc.collector import SweepResult
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryKey


@attrs.frozen
class StoreStatus:
    """Mirrored content: bytes on the disk, blobs and manifests, and the limit, if there is one."""

    bytes: int
    entries: int
    max_bytes: int | None


@attrs.frozen
class QuarantineStatus:
    """Hosted content in quarantine: bytes on the disk, and files."""

    bytes: int
    entries: int


@attrs.frozen
class HostedStatus:
    """Hosted content: bytes on the disk including open uploads, blobs and manifests, open uploads."""

    bytes: int
    entries: int
    uploads: int
    quarantine: QuarantineStatus


@attrs.frozen(kw_only=True)
class ListenerStatus:
    """A listener for clients.

    `certificates` maps names to expiry times in Unix seconds. `address` is the host and port of the bound
    port; a host of zeros means every address.
    """

    endpoint: str
    connections: int
    is_tls: bool = False
    certificates: Mapping[str, float] = attrs.field(factory=dict)
    trouble: str | None = None
    address: str | None = None


@attrs.frozen
class LogStatus:
    """The number of lines of the log and of the access log that were dropped since the start."""

    dropped: int
    access_dropped: int


@attrs.frozen(eq=False, kw_only=True)
class Status:
    """The status of the daemon. Every callable returns frozen attrs values from memory.

    `saved` counts what clients have pulled without a request to an upstream since the start.
    """

    version: str
    clock: Callable[[], float]
    store: Callable[[], StoreStatus]
    hosted: Callable[[], HostedStatus]
    saved: Callable[[], object]
    last_sweep: Callable[[], SweepResult | None]
    listeners: Callable[[], Iterable[ListenerStatus]]
    upstreams: Callable[[], Iterable[object]]
    downloads: Callable[[], Iterable[object]]
    logs: Callable[[], LogStatus]
    _started: float = attrs.field(
        init=False, default=attrs.Factory(lambda status: status.clock(), takes_self=True)
    )

    def __call__(self) -> dict[str, object]:
        """Return the document."""
        return {
            "version": self.version,
            "uptime_seconds": int(self.clock() - self._started),
            "store": _plain(self.store()),
            "hosted": _plain(self.hosted()),
            "saved": _plain(self.saved()),
            "last_sweep": last_sweep_document(self.last_sweep()),
            "listeners": [_plain(listener) for listener in self.listeners()],
            "upstreams": [_plain(upstream) for upstream in self.upstreams()],
            "downloads": [_plain(download) for download in self.downloads()],
            "logs": _plain(self.logs()),
        }


def _plain(value: Any) -> object:
    """Return a frozen attrs value as a dictionary of strings and numbers."""
    return attrs.asdict(value, value_serializer=_serialize)


def _serialize(_instance: Any, _attribute: Any, value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Digest | RepositoryKey) else value
