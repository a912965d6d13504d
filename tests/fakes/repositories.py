"""Mirrored and hosted repositories as a daemon builds them, over a real store and fake upstreams."""

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.hosted.deletion import HostedDeletion
from mirrord.hosted.manifests import ManifestPusher
from mirrord.hosted.mounts import Mounter
from mirrord.hosted.referrers import HostedReferrers
from mirrord.hosted.repository import HostedRepository, HostedServices
from mirrord.hosted.uploads import Uploader
from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.blobs import BlobDownloads
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.confirmation import LinkConfirmation
from mirrord.mirrored.freshness import FreshnessPolicy
from mirrord.mirrored.lists import ListCache, MirroredReferrers, MirroredTags, ReferrersKey, ReferrersList
from mirrord.mirrored.manifest_resolver import ManifestResolver
from mirrord.mirrored.manifests import MirroredManifests
from mirrord.mirrored.reference_confirmation import ReferenceConfirmation
from mirrord.mirrored.removal import MirroredRemoval
from mirrord.mirrored.repository import MirroredRepository, MirroredServices
from mirrord.mirrored.size_hints import SizeHints
from mirrord.mirrored.stale_if_error import StaleIfError
from mirrord.observe.disk_errors import DiskErrorLog
from mirrord.oci.digest import Digest
from mirrord.oci.errors import UpstreamRefused
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName, Tag
from mirrord.repository import Repository
from mirrord.routing import Router, StoredRepositories, UpstreamRoute
from tests.fakes.space import FakeSpace
from tests.fakes.stores import TemporaryStore
from tests.fakes.upstream import FakeUpstream

T = TypeVar("T")

HUB, QUAY = "docker.io", "quay.io"
TAG_TTL, DEFAULT_TAG_TTL = 300.0, 60.0
NEGATIVE_TTL = 10.0
STALE_IF_ERROR = 86_400.0


@attrs.define(eq=False)
class FakeRequestBody:
    """The body of a client's request, in chunks; the client of one that `breaks` disconnects at its end."""

    chunks: list[bytes] = attrs.field(factory=list)
    length: int | None = None
    breaks: bool = False
    is_read: bool = False

    @classmethod
    def of(cls, content: bytes) -> "FakeRequestBody":
        """Return a body whose length is announced."""
        return cls([content] if content else [], len(content))

    async def read(self) -> bytes:
        self.is_read = True
        if self.chunks:
            return self.chunks.pop(0)
        if self.breaks:
            raise CancelledError
        return b""


@attrs.define(eq=False, kw_only=True)
class Repositories:
    """Repositories over one store.

    Mirrored ones are at the `upstreams`; hosted ones are called `team/*`. Tags of docker.io are fresh for
    five minutes, of quay.io for one; they are served stale for a day. An absent one is cached for ten
    seconds. `problem` is why no upstream would be requested now.
    """

    case: SynchronousTestCase
    store: TemporaryStore
    clock: Clock
    upstreams: dict[str, FakeUpstream] = attrs.field(
        factory=lambda: {name: FakeUpstream(name) for name in (HUB, QUAY)}
    )
    space: FakeSpace = attrs.field(factory=FakeSpace)
    problem: str | None = None
    is_hosting: bool = True
    can_delete: bool = True
    max_upload_bytes: int | None = None
    downloads: BlobDownloads = attrs.field(init=False)
    writer: CacheWriter = attrs.field(init=False)
    confirmation: LinkConfirmation = attrs.field(init=False)
    references: ReferenceConfirmation = attrs.field(init=False)
    hints: SizeHints = attrs.field(factory=SizeHints, init=False)

    def __attrs_post_init__(self) -> None:
        opened = self.store.opened
        self.writer = CacheWriter(opened.manifests, self.space, DiskErrorLog(self.clock))
        self.confirmation = LinkConfirmation(
            upstreams=self.upstreams,
            files=opened.blobs,
            manifests=opened.manifests,
            index=opened.index,
            writer=self.writer,
        )
        self.downloads = BlobDownloads(
            upstreams=self.upstreams,
            files=opened.blobs,
            index=opened.index,
            writer=self.writer,
            confirmation=self.confirmation,
            hints=self.hints,
            clock=self.clock,
            random=lambda: 1.0,
            corrupt=AgedCache(self.clock.seconds, 100),
        )
        self.references = ReferenceConfirmation(
            upstreams=self.upstreams,
            blobs=self.downloads,
            confirmation=self.confirmation,
            manifests=opened.manifests,
            index=opened.index,
            clock=self.clock,
        )
        self.case.addCleanup(self._stop)

    @classmethod
    def of(cls, case: SynchronousTestCase, clock: Clock | None = None) -> "Repositories":
        """Return repositories over a new store with the same clock."""
        clock = clock or Clock()
        return cls(case=case, store=TemporaryStore.of(case, clock), clock=clock)

    @property
    def hub(self) -> FakeUpstream:
        """The upstream docker.io."""
        return self.upstreams[HUB]

    def router(self, *routes: UpstreamRoute) -> Router:
        """Return a router; without `routes`, of docker.io as `dockerhub` and quay.io as `quay`."""
        opened = self.store.opened
        return Router.of(
            routes or (UpstreamRoute(HUB, "dockerhub"), UpstreamRoute(QUAY, "quay")),
            hosted_patterns=("team/*",),
            open_mirrored=self.mirrored,
            open_hosted=self.hosted,
            stored=StoredRepositories(
                of_upstream=opened.index.repositories,
                hosted=opened.hosted.repositories,
                mirrored=opened.browser.sources,
                has_hosted=opened.hosted.has,
            ),
        )

    def mirrored(self, key: RepositoryKey) -> MirroredRepository:
        """Return a mirrored repository."""
        return MirroredRepository(key, self.mirrored_services())

    def hosted(self, key: RepositoryKey) -> HostedRepository:
        """Return a hosted repository."""
        return HostedRepository(key, self.hosted_services())

    def mirrored_services(self) -> MirroredServices:
        """Return what mirrored repositories share; recent answers of upstreams are cached in here."""
        opened, now, clock = self.store.opened, self.store.now, self.clock
        stale_if_error = StaleIfError(self.upstreams, clock)
        tags: ListCache[RepositoryKey, tuple[str, ...]] = ListCache(
            stale_if_error, STALE_IF_ERROR, AgedCache(clock.seconds, 100)
        )
        referrers: ListCache[ReferrersKey, ReferrersList] = ListCache(
            stale_if_error, STALE_IF_ERROR, AgedCache(clock.seconds, 100)
        )
        resolver = ManifestResolver(
            upstreams=self.upstreams,
            index=opened.index,
            writer=self.writer,
            confirmation=self.confirmation,
            references=self.references,
            hints=self.hints,
            now=now,
            negative_ttl=NEGATIVE_TTL,
            absent=AgedCache(clock.seconds, 100),
        )
        manifests = MirroredManifests(
            manifests=opened.manifests,
            index=opened.index,
            resolver=resolver,
            freshness={name: FreshnessPolicy(TAG_TTL, STALE_IF_ERROR) for name in self.upstreams},
            stale_if_error=stale_if_error,
            now=now,
        )
        return MirroredServices(
            manifests=manifests,
            blobs=self.downloads,
            tags=MirroredTags(self.upstreams, tags),
            referrers=MirroredReferrers(self.upstreams, referrers),
            removal=MirroredRemoval(opened.browser, clock),
            index=opened.index,
            files=opened.blobs,
            content=opened.browser,
            problem=lambda _: self.problem,
            tag_ttl={HUB: TAG_TTL},
            default_tag_ttl=DEFAULT_TAG_TTL,
            now=now,
        )

    def hosted_services(self) -> HostedServices:
        """Return what hosted repositories share."""
        opened, clock = self.store.opened, self.clock
        return HostedServices(
            links=opened.hosted,
            content=opened.browser,
            blobs=opened.blobs,
            manifests=opened.manifests,
            referrers=HostedReferrers(opened.hosted, opened.manifests),
            uploader=Uploader(opened.uploads, self.space, self.max_upload_bytes),
            mounter=Mounter(opened.hosted),
            pusher=ManifestPusher(links=opened.hosted, content=opened.browser, space=self.space, clock=clock),
            deletion=HostedDeletion(
                links=opened.hosted, graph=opened.hosted_gc, clock=clock, is_allowed=self.can_delete
            ),
            is_configured=lambda _: self.is_hosting,
            clock=clock,
        )

    def push(self, name: RepositoryName, *content: Manifest | bytes, tags: Iterable[str] = ()) -> None:
        """Push blobs and manifests to a hosted repository, in this order; `tags` name each manifest."""
        repository = self.hosted(RepositoryKey(HOSTED, name))
        for each in content:
            if isinstance(each, bytes):
                self._run(repository.push_blob(Digest.of(each), FakeRequestBody.of(each), "ann"))
                continue
            body = FakeRequestBody.of(each.body)
            self._run(
                repository.push_manifest(
                    each.digest, tags=map(Tag, tags), content_type=each.media_type, body=body
                )
            )

    def open(self, key: RepositoryKey) -> Repository:
        """Return a repository of either kind."""
        return self.hosted(key) if key.upstream == HOSTED else self.mirrored(key)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.case.successResultOf(Deferred.fromCoroutine(coroutine))

    def _stop(self) -> None:
        """Stop the downloads; upstreams respond to requests that hang, with an error."""
        self.store.threads.release()
        self.references.stop()
        stopping = Deferred.fromCoroutine(self.downloads.stop())
        for upstream in self.upstreams.values():
            upstream.failing = upstream.failing or UpstreamRefused("down")
            upstream.respond()
        self.clock.pump([10] * 10)
        self.case.successResultOf(stopping)
