"""Content that was found damaged: it becomes absent at once, and its file goes where it is never served."""

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store.contents import Contents
from mirrord.store.partials import PartialStore
from mirrord.store.quarantine import Quarantine


@attrs.frozen(eq=False)
class DamagedContent:
    """Sets damaged content aside: a file of the cache among the partials, a hosted one in quarantine."""

    _contents: Contents
    _partials: PartialStore
    _quarantine: Quarantine
    _log = Logger()

    def set_aside(self, kind: ContentKind, digest: Digest) -> None:
        """Make content absent at once, and set its file aside soon."""
        row = self._contents.get(kind, digest)
        self._contents.drop(kind, digest)
        if row is not None and row.is_hosted:
            moving = Deferred.fromCoroutine(self._set_hosted_aside(kind, digest))
            moving.addErrback(self._failed, kind, digest)
        else:
            self._partials.set_aside(kind, digest)

    async def _set_hosted_aside(self, kind: ContentKind, digest: Digest) -> None:
        """Set hosted content aside, which may not have been moved to the hosted folder yet."""
        if not await self._quarantine.put_damaged(kind, digest):
            self._partials.set_aside(kind, digest)

    def _failed(self, failure: Failure, kind: ContentKind, digest: Digest) -> None:
        self._log.error(
            "{kind} {digest} is damaged and could not be set aside: {error}",
            kind=str(kind),
            digest=str(digest),
            error=failure.getErrorMessage(),
        )
