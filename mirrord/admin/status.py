"""Status: what the daemon is doing, at a glance, as JSON takes it."""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.names import Source


@attrs.frozen
class Holdings:
    """What the store holds: bytes on the disk, blobs and manifests; and its bound, if it has one."""

    bytes: int
    entries: int
    max_bytes: int | None


@attrs.frozen(eq=False)
class Status:
    """What `/status` answers. Every callable answers from memory; what they give is frozen attrs values."""

    version: str
    _clock: Callable[[], float]
    _store: Callable[[], object]
    _downloads: Callable[[], Iterable[object]]
    _upstreams: Callable[[], Iterable[object]]
    _last_sweep: Callable[[], object | None]
    _started: float = attrs.field(
        init=False, default=attrs.Factory(lambda status: status._clock(), takes_self=True)
    )

    def __call__(self) -> dict[str, object]:
        """All of it, as it is now."""
        return {
            "version": self.version,
            "uptime_seconds": int(self._clock() - self._started),
            "store": _plain(self._store()),
            "downloads": [_plain(download) for download in self._downloads()],
            "upstreams": [_plain(upstream) for upstream in self._upstreams()],
            "last_sweep": _plain(self._last_sweep()),
        }


def _plain(value: Any) -> object:
    """A frozen value as a table of strings and numbers."""
    return None if value is None else attrs.asdict(value, value_serializer=_word)


def _word(_instance: Any, _attribute: Any, value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Digest | Source) else value
