"""Tests of mirrored/manifests.py and naming.py."""

import errno
import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.freshness import FreshnessPolicy
from mirrord.mirrored.manifest_resolver import ManifestResolver
from mirrord.mirrored.manifests import MirroredManifests
from mirrord.mirrored.stale_if_error import StaleIfError
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Denied, ManifestUnknown, UpstreamBusy, UpstreamRefused, UpstreamTimeout
from mirrord.oci.manifests import OCI_MANIFEST
from mirrord.oci.names import Reference, RepositoryKey, RepositoryName, Tag
from mirrord.repository import DescriptorResult, ManifestResult
from tests.fakes.store import FakeRoom, MemoryIndex, MemoryManifests
from tests.fakes.upstream import FakeUpstream

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))
OTHER = RepositoryKey("docker.io", RepositoryName("team/other"))
LATEST = Tag("latest")


def manifest_body(text: str = "one") -> bytes:
    layer = {"digest": str(Digest.of(text.encode())), "size": len(text), "mediaType": "layer"}
    return json.dumps({"mediaType": OCI_MANIFEST, "config": layer, "layers": [layer]}).encode()


class PullManifests(SynchronousTestCase):
    """A puller between a fake upstream and a fake store; five minutes of freshness, a day of staleness."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.upstream = FakeUpstream()
        self.index = MemoryIndex()
        self.manifests = MemoryManifests(self.index)
        self.room = FakeRoom()
        self.one = self.upstream.add_manifest(manifest_body("one"), "latest")
        self.start()

    def start(self) -> None:
        upstreams = {"docker.io": self.upstream}
        resolver = ManifestResolver(
            upstreams=upstreams,
            manifests=self.manifests,
            index=self.index,
            writer=CacheWriter(self.manifests, self.room),
            now=self.now,
            negative_ttl=10.0,
            absent=AgedCache(self.clock.seconds, 100),
        )
        self.puller = MirroredManifests(
            manifests=self.manifests,
            index=self.index,
            resolver=resolver,
            freshness={"docker.io": FreshnessPolicy(300.0, 86400.0)},
            stale_if_error=StaleIfError(upstreams, self.clock),
            now=self.now,
        )

    def now(self) -> float:
        return 1_000_000.0 + self.clock.seconds()

    def begin_get(
        self, reference: Reference = LATEST, source: RepositoryKey = UBUNTU
    ) -> Deferred[ManifestResult]:
        return Deferred.fromCoroutine(self.puller.get(source, reference))

    def get(self, reference: Reference = LATEST, source: RepositoryKey = UBUNTU) -> ManifestResult:
        return self.successResultOf(self.begin_get(reference, source))

    def head(self, reference: Reference = LATEST, source: RepositoryKey = UBUNTU) -> DescriptorResult:
        return self.successResultOf(Deferred.fromCoroutine(self.puller.head(source, reference)))

    def failure(
        self, expected: type[Exception], reference: Reference = LATEST, source: RepositoryKey = UBUNTU
    ) -> Any:
        return self.failureResultOf(self.begin_get(reference, source), expected).value


class FreshTests(PullManifests):
    """Tags that were asked about recently."""

    def test_miss(self) -> None:
        """The first pull of a tag costs one HEAD and one GET, and is stored."""
        pulled = self.get()

        self.assertEqual(self.one, pulled.manifest)
        self.assertEqual("mirrord; fwd=uri-miss; stored", str(pulled.cache))
        self.assertEqual((1, 1), (self.upstream.count("HEAD manifest"), self.upstream.count("GET manifest")))

    def test_hits(self) -> None:
        """Twenty pulls of a fresh tag ask nobody."""
        self.get()
        self.upstream.requests.clear()
        self.clock.advance(100)
        outcomes = {str(self.get().cache) for _ in range(20)}

        self.assertEqual({"mirrord; hit; ttl=200"}, outcomes)
        self.assertEqual([], self.upstream.requests)

    def test_tries(self) -> None:
        """Where a held manifest can stand in the upstream is asked once, else it may be asked again."""
        self.get()
        self.clock.advance(301)
        self.get()

        heads = [request.attempts for request in self.upstream.requests if request.method == "HEAD manifest"]
        self.assertEqual([3, 1], heads)

    def test_digest_is_immutable(self) -> None:
        """A manifest by digest is a hit for ever, without a ttl."""
        self.get()
        self.clock.advance(10**8)

        self.assertEqual("mirrord; hit", str(self.get(self.one.digest).cache))

    def test_unchanged_after_ttl(self) -> None:
        """After its ttl an unchanged tag costs one HEAD and no GET, and is fresh again."""
        self.get()
        self.clock.advance(301)
        self.upstream.requests.clear()

        self.assertEqual("mirrord; fwd=stale; fwd-status=200", str(self.get().cache))
        self.assertEqual(["HEAD manifest"], [request.method for request in self.upstream.requests])
        self.assertEqual("mirrord; hit; ttl=300", str(self.get().cache))

    def test_changed_after_ttl(self) -> None:
        """After its ttl a changed tag is fetched by its new digest and takes the old one's place."""
        self.get()
        two = self.upstream.add_manifest(manifest_body("two"), "latest")
        self.clock.advance(301)
        pulled = self.get()

        self.assertEqual(two, pulled.manifest)
        self.assertEqual("mirrord; fwd=stale; fwd-status=200; stored", str(pulled.cache))

    def test_sixteen_at_once(self) -> None:
        """Sixteen clients of an uncached tag cost one HEAD and one GET between them."""
        self.upstream.is_hanging = True
        waiting = [self.begin_get() for _ in range(16)]
        self.upstream.respond()

        self.assertEqual({self.one}, {self.successResultOf(pulled).manifest for pulled in waiting})
        self.assertEqual((1, 1), (self.upstream.count("HEAD manifest"), self.upstream.count("GET manifest")))

    def test_by_tag_and_by_digest_at_once(self) -> None:
        """Clients of a tag and clients of its digest share one GET."""
        self.upstream.is_hanging = True
        waiting = [self.begin_get(), self.begin_get(self.one.digest)]
        self.upstream.respond()
        for pulled in waiting:
            self.successResultOf(pulled)

        self.assertEqual(1, self.upstream.count("GET manifest"))

    def test_upstream_without_digests(self) -> None:
        """Where HEAD does not tell the digest, the tag itself is read and hashed."""
        self.upstream.reports_digests = False

        self.assertEqual(self.one, self.get().manifest)
        self.assertEqual(self.one.digest, self.head().descriptor.digest)
        self.assertEqual(1, self.upstream.count("GET manifest"))

    def test_clock_set_back(self) -> None:
        """A tag seen in what is now the future is asked about again."""
        self.get()
        self.index.tags = {
            key: type(record)(cached=type(record.cached)(record.cached.descriptor, self.now() + 86400))
            for key, record in self.index.tags.items()
            if record.cached
        }
        self.upstream.requests.clear()
        self.get()

        self.assertEqual(1, self.upstream.count("HEAD manifest"))

    def test_a_client_leaves(self) -> None:
        """A client that leaves while its tag is asked about harms nobody, and the answer is kept."""
        self.upstream.is_hanging = True
        leaver, stayer = self.begin_get(), self.begin_get()
        leaver.cancel()
        self.failureResultOf(leaver)
        self.upstream.respond()

        self.assertEqual(self.one, self.successResultOf(stayer).manifest)
        self.assertEqual("mirrord; hit; ttl=300", str(self.get().cache))


class HeadTests(PullManifests):
    """Clients that resolve by HEAD and then GET by digest, as docker and containerd do."""

    def test_head_costs_no_get(self) -> None:
        """HEAD of an unseen tag asks by HEAD alone."""
        self.assertEqual(self.one.digest, self.head().descriptor.digest)
        self.assertEqual(0, self.upstream.count("GET manifest"))

    def test_pending_becomes_held(self) -> None:
        """A tag seen by HEAD is held as soon as its manifest was pulled by digest."""
        self.head()
        self.get(self.one.digest)
        self.clock.advance(301)
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)

        self.assertEqual(self.one.digest, self.head().descriptor.digest)
        self.assertEqual(self.one, self.get().manifest)

    def test_pending_does_not_replace_held(self) -> None:
        """A new digest that was only seen by HEAD does not cost the held one when the upstream fails."""
        self.get()
        self.upstream.add_manifest(manifest_body("two"), "latest")
        self.clock.advance(301)
        self.head()
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)

        self.assertEqual(self.one, self.get().manifest)
        self.upstream.degraded = True
        self.assertEqual(self.one.digest, self.head().descriptor.digest)

    def test_fresh_pending_is_fetched(self) -> None:
        """GET of a tag that HEAD has just resolved costs one GET and no second HEAD."""
        self.head()
        self.assertEqual(self.one, self.get().manifest)
        self.assertEqual(1, self.upstream.count("HEAD manifest"))

    def test_pending_that_is_gone(self) -> None:
        """A tag whose seen digest the upstream no longer has is resolved again."""
        self.head()
        del self.upstream.manifests[self.one.digest]
        two = self.upstream.add_manifest(manifest_body("two"), "latest")

        self.assertEqual(two, self.get().manifest)


class StaleTests(PullManifests):
    """The upstream fails, and something is held."""

    def setUp(self) -> None:
        super().setUp()
        self.get()
        self.clock.advance(400)

    def test_error(self) -> None:
        """A held tag is served while the upstream fails, and says so."""
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        pulled = self.get()

        self.assertEqual(self.one, pulled.manifest)
        self.assertEqual("mirrord; fwd=stale; fwd-status=503; detail=stale-if-error", str(pulled.cache))
        self.assertEqual(400, pulled.cache.age_seconds)

    def test_silence(self) -> None:
        """A held tag is served within three seconds when the upstream hangs, and at once the next time."""
        self.upstream.is_hanging = True
        waiting = self.begin_get()
        self.clock.advance(2.9)

        self.assertEqual(
            "mirrord; fwd=stale; detail=stale-if-error", str(self.successResultOf(waiting).cache)
        )
        self.assertEqual("mirrord; hit; ttl=-102; detail=stale-if-error", str(self.get().cache))

    def test_recovery_from_silence(self) -> None:
        """After a silence the next question is a new one: nobody joins the one that hangs."""
        self.upstream.is_hanging = True
        waiting = self.begin_get()
        self.clock.advance(2.9)
        self.successResultOf(waiting)
        self.upstream.is_hanging, self.upstream.degraded = False, False

        self.assertEqual("mirrord; fwd=stale; fwd-status=200", str(self.get().cache))

    def test_late_answer_counts(self) -> None:
        """An answer that came too late for its client makes the tag fresh for the next one."""
        self.upstream.is_hanging = True
        waiting = self.begin_get()
        self.clock.advance(2.9)
        self.successResultOf(waiting)
        self.upstream.respond()

        self.assertEqual("mirrord; hit; ttl=297", str(self.get().cache))

    def test_gone(self) -> None:
        """A held tag that the upstream says is gone is gone, and that is remembered for a moment."""
        self.upstream.tags.clear()
        self.failure(ManifestUnknown)
        self.upstream.requests.clear()
        error = self.failure(ManifestUnknown)

        self.assertEqual([], self.upstream.requests)
        self.assertEqual("mirrord; hit; ttl=10", error.cache_status)

    def test_gone_stays_gone(self) -> None:
        """A tag that was deleted does not come back when the upstream fails later."""
        self.upstream.tags.clear()
        self.failure(ManifestUnknown)
        self.clock.advance(20)
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)

        self.failure(UpstreamRefused)

    def test_access_revoked(self) -> None:
        """A held tag is not served when the upstream denies access."""
        self.upstream.failing = Denied("no")
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=403", self.failure(Denied).cache_status)

    def test_too_stale(self) -> None:
        """Nothing is served stale for longer than `stale_if_error`."""
        self.clock.advance(90_000)
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        self.failure(UpstreamRefused)

    def test_limit_on_manifests(self) -> None:
        """A changed tag whose new manifest is refused by a pull limit is answered with the held one."""
        self.upstream.add_manifest(manifest_body("two"), "latest")
        self.upstream.failing = UpstreamBusy("limit", upstream_status=429)
        self.upstream.failing_method = "GET manifest"

        self.assertEqual(self.one, self.get().manifest)


class UnheldTests(PullManifests):
    """The upstream fails, and nothing is held."""

    def test_silence(self) -> None:
        """An unheld tag of a silent upstream is a timeout before 25 seconds, never a 404."""
        self.upstream.is_hanging = True
        waiting = self.begin_get()
        self.clock.advance(24)

        self.failureResultOf(waiting, UpstreamTimeout)

    def test_absent(self) -> None:
        """An unknown tag is asked for once in ten seconds."""
        self.failure(ManifestUnknown, Tag("none"))
        self.clock.advance(9)
        self.failure(ManifestUnknown, Tag("none"))
        self.assertEqual(1, self.upstream.count("HEAD manifest"))
        self.clock.advance(2)
        self.failure(ManifestUnknown, Tag("none"))

        self.assertEqual(2, self.upstream.count("HEAD manifest"))

    def test_full_disk(self) -> None:
        """What the disk does not take is served all the same, and says that it is not stored."""
        self.room.can_help = False
        self.manifests.refusals = [OSError(errno.ENOSPC, "full")]
        pulled = self.get()

        self.assertEqual(self.one, pulled.manifest)
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=200", str(pulled.cache))

    def test_no_room(self) -> None:
        """Where there is no room for a manifest it is served and not stored."""
        self.room.free = 3
        self.get()

        self.assertEqual({}, self.index.manifests)

    def test_slow_disk(self) -> None:
        """Nobody waits until the disk has a manifest: it is answered, and can be read by all at once."""
        self.manifests.slow_disk = Deferred()

        self.assertEqual(self.one, self.get().manifest)
        self.assertEqual("mirrord; hit; ttl=300", str(self.get().cache))
        self.manifests.slow_disk.callback(None)
        self.assertIn(self.one.digest, self.index.manifests)

    def test_pushed_a_moment_later(self) -> None:
        """A digest that was absent and is there now is found through its tag, at once."""
        two = self.upstream.add_manifest(manifest_body("two"))
        del self.upstream.manifests[two.digest]
        self.failure(ManifestUnknown, two.digest)
        self.upstream.add_manifest(two.body, "new")

        self.assertEqual(two, self.get(Tag("new")).manifest)

    def test_absence_is_small(self) -> None:
        """What is remembered of an absence holds no frames of the question."""
        self.failure(ManifestUnknown, Tag("none"))
        error = self.failure(ManifestUnknown, Tag("none"))
        traceback, frames = error.__traceback__, 0
        while traceback is not None:
            traceback, frames = traceback.tb_next, frames + 1

        self.assertLess(frames, 20)
        self.assertIsNone(error.__context__)

    def test_emergency(self) -> None:
        """A full disk is swept once, and the manifest stored after all."""
        self.manifests.refusals = [OSError(errno.ENOSPC, "full")]

        self.assertEqual("mirrord; fwd=uri-miss; stored", str(self.get().cache))
        self.assertEqual(1, self.room.emergencies)


class LinkTests(PullManifests):
    """Who may read what is stored."""

    def test_stored_is_not_permitted(self) -> None:
        """A stored manifest is not readable through a repository of which the upstream denies it."""
        self.get()
        self.upstream.repositories = {"library/ubuntu"}

        self.failure(ManifestUnknown, self.one.digest, OTHER)

    def test_link_is_earned(self) -> None:
        """A stored manifest becomes readable through another repository by a HEAD there, without a GET."""
        self.get()
        self.upstream.requests.clear()

        self.assertEqual(self.one, self.get(self.one.digest, OTHER).manifest)
        self.assertEqual(["HEAD manifest"], [request.method for request in self.upstream.requests])
        self.assertEqual("mirrord; hit", str(self.get(self.one.digest, OTHER).cache))

    def test_head_without_words_is_no_permission(self) -> None:
        """Where an upstream's HEAD does not say what it answers to, only a GET earns the link."""
        self.get()
        self.upstream.reports_digests = False
        self.upstream.repositories = {"library/ubuntu"}
        self.upstream.hides_absence = True

        self.failure(ManifestUnknown, self.one.digest, OTHER)
        self.failureResultOf(
            Deferred.fromCoroutine(self.puller.head(OTHER, self.one.digest)), ManifestUnknown
        )

    def test_no_stored_answer_without_the_upstream(self) -> None:
        """While the upstream fails, an unlinked stored manifest is an upstream failure, not a 404."""
        self.get()
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        self.failure(UpstreamRefused, self.one.digest, OTHER)
