"""CacheWriter: stores what was fetched, if there is room; a full disk slows a mirror but does not stop it."""

import errno
from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.defer import Deferred

from mirrord.mirrored.ports import CacheSpace, ManifestFiles
from mirrord.observe.disk_errors import DiskErrorLog
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import RepositoryKey

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@attrs.define(eq=False)
class CacheWriter:
    """Writes to the store, and makes room if the disk is full; `disk_errors` logs what fails."""

    _manifests: ManifestFiles
    _space: CacheSpace
    disk_errors: DiskErrorLog

    def can_fit(self, size: int, digest: Digest, *, is_kept: bool) -> bool:
        """Return whether `size` more bytes of a blob can fit at all (`CacheSpace.can_fit`)."""
        return self._space.can_fit(size, digest, is_kept=is_kept)

    async def has_room(
        self, size: int, digest: Digest | None = None, *, is_kept: bool = True, may_evict: bool = True
    ) -> bool:
        """Return whether `size` more bytes may be written, after evictions (`CacheSpace.make_room`)."""
        try:
            return await self._space.make_room(size, digest, is_kept=is_kept, may_evict=may_evict)
        except OSError as error:
            self.disk_errors.report(error, "cannot make room on the disk")
            return False

    async def store_manifest(self, key: RepositoryKey, manifest: Manifest) -> bool:
        """Store a verified manifest for a repository, whether or not a client still waits for it.

        It can be read from now on. The caller does not wait for the disk: on an SD card that is busy with a
        layer, an fsync may last half a minute. Return False if there is no room or the write has failed
        already; a failure is logged, also a later one.
        """
        if not await self.has_room(len(manifest.body)):
            return False
        results: list[bool] = []
        Deferred.fromCoroutine(self._store(key, manifest)).addCallback(results.append)
        return results != [False]

    async def write(self, size: int, write: Callable[[], Awaitable[None]]) -> None:
        """Call `write`, which writes `size` bytes; if the disk is full, evict and call it once more.

        Raises:
            OSError: The disk failed for good.
        """
        try:
            await write()
        except OSError as error:
            if error.errno not in DISK_FULL or not await self._space.free_in_emergency(size):
                raise
            await write()

    async def _store(self, key: RepositoryKey, manifest: Manifest) -> bool:
        try:
            await self.write(len(manifest.body), lambda: self._manifests.store(key, manifest))
        except OSError as error:
            self.disk_errors.report(error, f"{manifest.digest} was served but not cached")
            return False
        return True
