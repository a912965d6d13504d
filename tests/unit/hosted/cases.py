"""The base class of the tests of hosted repositories."""

from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.hosted.ports import HostedLinks
from mirrord.oci.content import HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName
from tests.fakes.clock import ImmediateClock
from tests.fakes.repositories import Repositories
from tests.fakes.stores import TemporaryStore

T = TypeVar("T")

APP = RepositoryName("team/app")
OTHER = RepositoryName("team/other")


class HostedCase(SynchronousTestCase):
    """Hosted repositories over a real store; work in slices completes at once."""

    def setUp(self) -> None:
        self.clock = ImmediateClock()
        self.store = TemporaryStore.of(self)
        self.repositories = Repositories(case=self, store=self.store, clock=self.clock)
        self.links = self.store.opened.hosted
        self.space = self.repositories.space
        self.services = self.repositories.hosted_services()

    def push_blob(self, content: bytes, repository: RepositoryName = APP) -> Digest:
        self.repositories.push(repository, content)
        return Digest.of(content)

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def failure(self, coroutine: Coroutine[Any, Any, Any], error: type[Exception]) -> None:
        self.failureResultOf(Deferred.fromCoroutine(coroutine), error)


@attrs.define(eq=False)
class CountingLinks:
    """The links of hosted repositories; counts the look-ups and the referrers that are read."""

    _links: HostedLinks
    look_ups: int = 0
    referrers_read: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._links, name)

    def link(
        self, repository: RepositoryName, digest: Digest, *, is_manifest: bool | None = None
    ) -> HostedLink | None:
        self.look_ups += 1
        return self._links.link(repository, digest, is_manifest=is_manifest)

    def referrers(
        self, repository: RepositoryName, subject: Digest, artifact_type: str | None = None, after: str = ""
    ) -> Iterator[HostedLink]:
        for link in self._links.referrers(repository, subject, artifact_type, after):
            self.referrers_read += 1
            yield link
