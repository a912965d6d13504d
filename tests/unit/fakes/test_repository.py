"""FakeRepository and MirroredRepository keep one contract."""

from mirrord.oci.manifests import Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.repository import Repository
from tests.fakes.fake_repositories import FakeRepositories, FakeRepository
from tests.fakes.repositories import Repositories
from tests.unit.fakes import contracts

KEY = RepositoryKey("docker.io", RepositoryName("library/app"))


class FakeRepositoryTests(contracts.RepositoryContract):
    def open(self, manifest: Manifest, tags: tuple[str, ...], blob: bytes) -> Repository:
        repositories = FakeRepositories(tags=tags)
        repositories.add_manifest(manifest.body, *tags, media_type=manifest.media_type)
        _, self.fake_blob = repositories.add_blob(blob, readable=0)
        return FakeRepository(KEY, repositories)

    def grow(self, readable: int) -> None:
        self.fake_blob.grow(readable)


class MirroredRepositoryContractTests(contracts.RepositoryContract):
    def open(self, manifest: Manifest, tags: tuple[str, ...], blob: bytes) -> Repository:
        repositories = Repositories.of(self)
        self.upstream = repositories.hub
        self.upstream.add(manifest, blob, tags=tags)
        self.sent = 0
        return repositories.mirrored(KEY)

    def grow(self, readable: int) -> None:
        (body,) = self.upstream.bodies
        body.send(readable - self.sent)
        self.sent = readable
        if readable == len(self.blob):
            body.finish()
