"""What the tests of pushing share: bodies, and hosted repositories in memory."""

import attrs
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName
from tests.fakes.hosted import FakeHosting

APP = RepositoryName("team/app")
OTHER = RepositoryName("team/other")


@attrs.define(eq=False)
class FakeBody:
    """A body in chunks; one that `breaks` is cut before its end."""

    chunks: list[bytes] = attrs.field(factory=list)
    length: int | None = None
    breaks: bool = False
    is_read: bool = False

    @classmethod
    def of(cls, content: bytes) -> "FakeBody":
        return cls([content] if content else [], len(content))

    async def read(self) -> bytes:
        self.is_read = True
        if self.chunks:
            return self.chunks.pop(0)
        if self.breaks:
            raise CancelledError
        return b""


class PushCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.hosting = FakeHosting()
        self.index = self.hosting.index
        self.services = self.hosting.services()

    def hold(self, content: bytes, repository: RepositoryName = APP) -> Digest:
        digest = Digest.of(content)
        self.index.hold(repository, digest, content)
        return digest
