"""FakeUpstream and UpstreamClient keep one contract."""

from twisted.internet.defer import Deferred, ensureDeferred

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from tests.fakes.clock import ImmediateClock
from tests.fakes.images import Image
from tests.fakes.registry import FakeRegistry
from tests.fakes.state import RegistryBehavior
from tests.fakes.upstream import FakeUpstream
from tests.unit.fakes import contracts
from tests.unit.upstream.sockets import REACTOR, SocketTestCase


class FakeUpstreamTests(contracts.UpstreamContract):
    def setUp(self) -> "Deferred[None]":  # type: ignore[override]
        self.upstream = self.fake = FakeUpstream()
        self.fake.sending_clock = ImmediateClock()
        return ensureDeferred(self.start())

    async def put(self, image: Image, tags: tuple[str, ...]) -> None:
        piece = image.manifest
        manifest = Manifest(Digest.parse(piece.digest), piece.media_type, piece.content)
        self.fake.add(manifest, *(blob.content for blob in image.blobs), tags=tags)
        self.fake.repositories = {str(contracts.APP)}


class UpstreamClientTests(contracts.UpstreamContract, SocketTestCase):
    def setUp(self) -> "Deferred[None]":  # type: ignore[override]
        self.registry = FakeRegistry(REACTOR, RegistryBehavior(has_referrers=True))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.registry.down()))
        return ensureDeferred(self.start())

    async def put(self, image: Image, tags: tuple[str, ...]) -> None:
        for tag in tags:
            self.registry.put(image, str(contracts.APP), tag)
        await self.registry.up()
        self.upstream = self.client(self.registry.url)
