"""A store that is pushed to."""

from collections.abc import Iterable

from mirrord.oci.content import HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import RepositoryName, Tag
from tests.unit.store.shop import StoreTestCase

APP, WEB = RepositoryName("team/app"), RepositoryName("team/web")
V1, V2 = Tag("v1"), Tag("v2")


class PushTestCase(StoreTestCase):
    """Pushes to `self.store` as a client would."""

    def push_blob(self, body: bytes, repository: RepositoryName = APP) -> Digest:
        upload = self.store.uploads.begin(repository)
        self.result(upload.write(body))
        self.result(upload.commit(Digest.of(body)))
        return Digest.of(body)

    def push_manifest(
        self,
        manifest: Manifest,
        *tags: Tag,
        repository: RepositoryName = APP,
        subject: Digest | None = None,
    ) -> Digest:
        self.result(
            self.store.hosted.put_manifest(repository, manifest, self.link_of(manifest, subject), tags)
        )
        return manifest.digest

    def link_of(self, manifest: Manifest, subject: Digest | None = None) -> HostedLink:
        return HostedLink(manifest.descriptor, True, self.wall.seconds(), subject)

    def holds(self, digest: Digest, repository: RepositoryName = APP) -> bool:
        return self.store.hosted.link(repository, digest) is not None

    def read_manifest(self, digest: Digest) -> bytes | None:
        found = self.result(self.store.manifests.read(digest))
        return None if found is None else found.body

    def evict_all(self) -> None:
        """As in an emergency: all that may go does."""
        self.result(self.store.eviction.flush())
        self.clock.advance(0)
        self.result(self.store.eviction.evict(list(self.store.eviction.entries())))

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    def tags(self, repository: RepositoryName = APP) -> list[str]:
        return self.store.hosted.tags(repository, "", 1000)

    def unlink_unreferenced(self, grace_seconds: float) -> Iterable[Digest]:
        going = [each for page in self.store.hosted_gc.unreferenced(grace_seconds) for each in page]
        self.result(self.store.hosted_gc.unlink(going, grace_seconds))
        return [digest for _, digest in going]
