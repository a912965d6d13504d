"""ReferenceConfirmation: confirm in the background what manifests reference and the disk has already.

A host that has the base layer of an image does not request it, so the image's repository would get no link to
it. Once the upstream is gone, a host without that layer could not pull the image, though every byte of it is
on the disk. So when a manifest was stored, and whenever its tag is revalidated, each of its references that
is on the disk and not linked is confirmed by HEAD (confirmation.py).

No client waits for these HEADs, so they must not be at the expense of one: they are few at a time, few per
manifest, and none are sent while the upstream is degraded. If one fails, its manifest is tried again later,
at growing intervals. The queue is in memory only: after a restart, or if it was full, the next revalidation
of a tag finds the same references again.
"""

from collections.abc import Mapping

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mirrord.flight.cooperate import yield_to_reactor
from mirrord.mirrored.blobs import BlobDownloads
from mirrord.mirrored.confirmation import LinkConfirmation
from mirrord.mirrored.ports import LinkIndex, ManifestFiles, Upstream
from mirrord.oci.digest import Digest
from mirrord.oci.errors import CircuitOpen, RegistryError, UpstreamError
from mirrord.oci.names import RepositoryKey

MAX_MANIFESTS = 1024
"""The most manifests that wait for a worker, and the most that wait for a retry."""

MAX_HEADS = 128
"""The most requests per manifest: an image has 127 layers at most, a crafted manifest thousands."""

CONCURRENT_HEADS = 2
MAX_ATTEMPTS = 8
FIRST_RETRY_SECONDS = 60.0
"""The first interval; each is twice the one before, so that the last attempt is two hours after the first."""

_REFERENCES_A_SLICE = 32


@attrs.define(eq=False, kw_only=True)
class ReferenceConfirmation:
    """A queue of manifests, each with the number of its attempt, and the workers that confirm references."""

    _upstreams: Mapping[str, Upstream]
    _blobs: BlobDownloads
    _confirmation: LinkConfirmation
    _manifests: ManifestFiles
    _index: LinkIndex
    _clock: IReactorTime
    _waiting: dict[tuple[RepositoryKey, Digest], int] = attrs.field(factory=dict, init=False)
    _retries: dict[tuple[RepositoryKey, Digest], IDelayedCall] = attrs.field(factory=dict, init=False)
    _workers: set[Deferred[None]] = attrs.field(factory=set, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)
    _log = Logger()

    def add(self, key: RepositoryKey, digest: Digest) -> None:
        """Confirm soon what a manifest references, if the manifest is stored and linked by then."""
        self._enqueue(key, digest, 1)

    def stop(self) -> None:
        """Send no more requests."""
        self._is_stopped = True
        self._waiting.clear()
        for retry in self._retries.values():
            retry.cancel()
        self._retries.clear()
        for worker in list(self._workers):
            worker.cancel()

    def _enqueue(self, key: RepositoryKey, digest: Digest, attempt: int) -> None:
        retry = self._retries.pop((key, digest), None)
        if retry is not None and retry.active():
            retry.cancel()
        if self._is_stopped or len(self._waiting) >= MAX_MANIFESTS:
            return
        self._waiting[key, digest] = attempt
        if len(self._workers) < CONCURRENT_HEADS:
            worker = Deferred.fromCoroutine(self._work())
            self._workers.add(worker)
            worker.addBoth(self._end, worker)

    async def _work(self) -> None:
        """Confirm the references of one manifest after another until none waits."""
        await yield_to_reactor(self._clock)
        while self._waiting:
            key, digest = next(iter(self._waiting))
            attempt = self._waiting.pop((key, digest))
            try:
                await self._confirm_references(key, digest)
            except (UpstreamError, OSError) as error:
                self._retry(key, digest, attempt, error)

    def _end(self, result: Failure | None, worker: Deferred[None]) -> None:
        self._workers.discard(worker)
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("confirmation of references failed", result)

    def _retry(
        self, key: RepositoryKey, digest: Digest, attempt: int, error: UpstreamError | OSError
    ) -> None:
        self._log.debug(
            "cannot confirm the references of {source}@{digest}: {error}",
            source=str(key),
            error=str(error),
            upstream=key.upstream,
            repository=str(key.repository),
            digest=str(digest),
        )
        if attempt < MAX_ATTEMPTS and len(self._retries) < MAX_MANIFESTS:
            seconds = FIRST_RETRY_SECONDS * 2.0 ** (attempt - 1)
            self._retries[key, digest] = self._clock.callLater(
                seconds, self._enqueue, key, digest, attempt + 1
            )

    async def _confirm_references(self, key: RepositoryKey, digest: Digest) -> None:
        """Confirm what a manifest references.

        Raises:
            UpstreamError: The upstream failed.
            OSError: The disk failed.
        """
        manifest = await self._manifests.read(digest) if self._index.is_linked(key, digest) else None
        heads = 0
        for number, reference in enumerate(() if manifest is None else manifest.references(), 1):
            if heads < MAX_HEADS and not self._index.is_linked(key, reference.digest):
                heads += await self._confirm(key, reference.digest)
            if number % _REFERENCES_A_SLICE == 0:
                await yield_to_reactor(self._clock)

    async def _confirm(self, key: RepositoryKey, digest: Digest) -> bool:
        """Confirm one reference; return whether that took a request.

        Raises:
            UpstreamError: The upstream failed, or is degraded.
            OSError: The disk failed.
        """
        is_manifest = await self._manifests.read(digest) is not None
        if not is_manifest and not self._blobs.is_unconfirmed(key, digest):
            return False
        if self._upstreams[key.upstream].is_degraded(of_manifests=False):
            raise CircuitOpen("the upstream failed recently")
        try:
            if not is_manifest:
                await self._blobs.confirm(key, digest)
            elif await self._confirmation.confirm_manifest(key, digest) is not None:
                self.add(key, digest)
        except UpstreamError:
            raise
        except RegistryError:
            pass  # The upstream does not have it, or denies it: there is no link.
        return True
