"""Downloads of blobs for the operator, which give way to those of clients."""

from collections.abc import Callable
from contextlib import closing

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mirrord.oci.digest import Digest
from mirrord.oci.errors import TooManyDownloads
from mirrord.repository import Repository

MAX_POSTPONEMENTS = 20
"""How often in a row a download is postponed without a byte: for ten minutes, with the wait for a slot."""

_RETRY_SECONDS = 10.0


@attrs.frozen
class DownloadedBlob:
    """The size of a blob that is stored, and how much of it was not on the disk before."""

    size: int
    fetched_bytes: int


async def download_blob(
    repository: Repository,
    digest: Digest,
    clock: IReactorTime,
    progressed: Callable[[int, int], None] = lambda size, written: None,
) -> DownloadedBlob:
    """Store a blob, unless it is stored already, and return when it is complete.

    `progressed` is called with the size of the blob and the bytes written. If the download is parked, or gets
    no slot, it is resumed a little later.

    Raises:
        TooManyDownloads: It was postponed MAX_POSTPONEMENTS times in a row.
        RegistryError: It failed.
    """
    cached: int | None = None
    postponements = 0
    while True:
        try:
            with closing((await repository.open_blob(digest)).blob) as blob:
                written = blob.readable
                cached = written if cached is None else cached
                progressed(blob.size, written)
                while written < blob.size:
                    written = await blob.grown(written)
                    postponements = 0
                    progressed(blob.size, written)
                return DownloadedBlob(blob.size, blob.size - cached)
        except TooManyDownloads as error:
            postponements += 1
            if postponements > MAX_POSTPONEMENTS:
                raise
            await deferLater(clock, error.retry_after_seconds or _RETRY_SECONDS)
