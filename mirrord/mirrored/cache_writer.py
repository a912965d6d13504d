"""Keeping what was fetched, where there is room: a full disk slows a mirror down, it does not break it."""

import errno
from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mirrord.mirrored.ports import CacheSpace, ManifestFiles
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import RepositoryKey

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@attrs.define(eq=False)
class CacheWriter:
    """Writes to the store, and asks for room when the disk has none."""

    _manifests: ManifestFiles
    _room: CacheSpace
    _log = Logger()

    async def has_room(self, size: int, digest: Digest | None = None) -> bool:
        """Whether `size` more bytes may be kept, after evicting what may go (ports.py: Room.make)."""
        try:
            return await self._room.make_room(size, digest)
        except OSError as error:
            self._log.warn("no room can be made: {error}", error=str(error))
            return False

    async def has_room_for_a_while(self, size: int, digest: Digest) -> bool:
        """Whether `size` bytes that are not kept can be on the disk at all, whatever the limits say."""
        try:
            return await self._room.lend_room(size, digest)
        except OSError as error:
            self._log.warn("no room can be made: {error}", error=str(error))
            return False

    async def keep_manifest(self, source: RepositoryKey, manifest: Manifest) -> bool:
        """Store a verified manifest for `source`, whether or not a client still waits for it.

        It can be read from now on. Nobody waits for the disk: an SD card that is busy with a layer
        may take half a minute for an fsync. False where it is known already that there is no room,
        or that the disk refused; that is logged, also when it turns out later.
        """
        if not await self.has_room(len(manifest.body)):
            return False
        kept: list[bool] = []
        Deferred.fromCoroutine(self._store(source, manifest)).addCallback(kept.append)
        return kept != [False]

    async def _store(self, source: RepositoryKey, manifest: Manifest) -> bool:
        try:
            await self.with_emergency(len(manifest.body), lambda: self._manifests.store(source, manifest))
        except OSError as error:
            digest = str(manifest.digest)
            self._log.warn("{digest} is served and not kept: {error}", digest=digest, error=str(error))
            return False
        return True

    async def with_emergency(self, size: int, write: Callable[[], Awaitable[None]]) -> None:
        """Write `size` bytes; where the disk is full, once more after an emergency sweep.

        Raises:
            OSError: The disk refused for good.
        """
        try:
            await write()
        except OSError as error:
            if error.errno not in _NO_ROOM or not await self._room.free_in_emergency(size):
                raise
            await write()
