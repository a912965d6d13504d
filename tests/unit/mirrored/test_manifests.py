"""Tests of mirrored/manifests.py and manifest_resolver.py."""

import errno
import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.errors import Denied, ManifestUnknown, UpstreamBusy, UpstreamRefused, UpstreamTimeout
from mirrord.oci.manifests import OCI_MANIFEST, Manifest
from mirrord.oci.names import Reference, RepositoryKey, RepositoryName, Tag
from mirrord.repository import DescriptorResult, ManifestResult
from tests.fakes.repositories import Repositories
from tests.fakes.stores import TemporaryStore

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))
OTHER = RepositoryKey("docker.io", RepositoryName("team/other"))
LATEST = Tag("latest")


def manifest_body(text: str = "one") -> bytes:
    layer = {"digest": str(Digest.of(text.encode())), "size": len(text), "mediaType": "layer"}
    return json.dumps({"mediaType": OCI_MANIFEST, "config": layer, "layers": [layer]}).encode()


class ManifestsCase(SynchronousTestCase):
    """Manifests from a fake upstream, stored in a real store."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock_error = 0.0
        self.store = TemporaryStore(case=self, clock=Clock(), now=self.now)
        self.repositories = Repositories(case=self, store=self.store, clock=self.clock)
        self.space = self.repositories.space
        self.upstream = self.repositories.hub
        self.one = self.upstream.add_manifest(manifest_body("one"), "latest")
        self.manifests = self.repositories.mirrored_services().manifests

    def now(self) -> float:
        return 1_000_000.0 + self.clock.seconds() + self.clock_error

    def begin_get(
        self, reference: Reference = LATEST, key: RepositoryKey = UBUNTU
    ) -> Deferred[ManifestResult]:
        return Deferred.fromCoroutine(self.manifests.get(key, reference))

    def get(self, reference: Reference = LATEST, key: RepositoryKey = UBUNTU) -> ManifestResult:
        return self.successResultOf(self.begin_get(reference, key))

    def head(self, reference: Reference = LATEST, key: RepositoryKey = UBUNTU) -> DescriptorResult:
        return self.successResultOf(Deferred.fromCoroutine(self.manifests.head(key, reference)))

    def failure(
        self, expected: type[Exception], reference: Reference = LATEST, key: RepositoryKey = UBUNTU
    ) -> Any:
        return self.failureResultOf(self.begin_get(reference, key), expected).value


class FreshTests(ManifestsCase):
    """Tags that the upstream confirmed recently."""

    def test_miss(self) -> None:
        """The first pull of a tag causes one HEAD and one GET, and the manifest is stored."""
        pulled = self.get()

        self.assertEqual(self.one, pulled.manifest)
        self.assertEqual("mirrord; fwd=uri-miss; stored", str(pulled.cache))
        self.assertEqual((1, 1), (self.upstream.count("HEAD manifest"), self.upstream.count("GET manifest")))

    def test_hits(self) -> None:
        """Pulls of a fresh tag cause no request."""
        self.get()
        self.upstream.requests.clear()
        self.clock.advance(100)
        outcomes = {str(self.get().cache) for _ in range(20)}

        self.assertEqual({"mirrord; hit; ttl=200"}, outcomes)
        self.assertEqual([], self.upstream.requests)

    def test_attempts(self) -> None:
        """A request is not retried if a cached manifest can stand in."""
        self.get()
        self.clock.advance(301)
        self.get()

        heads = [request.attempts for request in self.upstream.requests if request.method == "HEAD manifest"]
        self.assertEqual([3, 1], heads)

    def test_digest_is_immutable(self) -> None:
        """A stored manifest is a hit by its digest for ever, without a ttl."""
        self.get()
        self.clock.advance(10**8)

        self.assertEqual("mirrord; hit", str(self.get(self.one.digest).cache))

    def test_unchanged_after_ttl(self) -> None:
        """An unchanged tag is revalidated by one HEAD after its ttl, and is fresh again."""
        self.get()
        self.clock.advance(301)
        self.upstream.requests.clear()

        self.assertEqual("mirrord; fwd=stale; fwd-status=200", str(self.get().cache))
        self.assertEqual(["HEAD manifest"], [request.method for request in self.upstream.requests])
        self.assertEqual("mirrord; hit; ttl=300", str(self.get().cache))

    def test_changed_after_ttl(self) -> None:
        """A changed tag is fetched after its ttl, and names the new manifest."""
        self.get()
        two = self.upstream.add_manifest(manifest_body("two"), "latest")
        self.clock.advance(301)
        pulled = self.get()

        self.assertEqual(two, pulled.manifest)
        self.assertEqual("mirrord; fwd=stale; fwd-status=200; stored", str(pulled.cache))

    def test_sixteen_at_once(self) -> None:
        """Concurrent pulls of an uncached tag share one HEAD and one GET."""
        self.upstream.is_hanging = True
        waiting = [self.begin_get() for _ in range(16)]
        self.upstream.respond()

        self.assertEqual({self.one}, {self.successResultOf(pulled).manifest for pulled in waiting})
        self.assertEqual((1, 1), (self.upstream.count("HEAD manifest"), self.upstream.count("GET manifest")))

    def test_by_tag_and_by_digest_at_once(self) -> None:
        """Concurrent pulls of a tag and of its digest share one GET."""
        self.upstream.is_hanging = True
        waiting = [self.begin_get(), self.begin_get(self.one.digest)]
        self.upstream.respond()
        for pulled in waiting:
            self.successResultOf(pulled)

        self.assertEqual(1, self.upstream.count("GET manifest"))

    def test_upstream_without_digests(self) -> None:
        """If the response to HEAD has no digest, the manifest is fetched by tag and hashed."""
        self.upstream.reports_digests = False

        self.assertEqual(self.one, self.get().manifest)
        self.assertEqual(self.one.digest, self.head().descriptor.digest)
        self.assertEqual(1, self.upstream.count("GET manifest"))

    def test_clock_set_back(self) -> None:
        """A tag that was observed in the future is revalidated."""
        self.get()
        self.clock_error = -86_400.0
        self.upstream.requests.clear()
        self.get()

        self.assertEqual(1, self.upstream.count("HEAD manifest"))

    def test_disconnect(self) -> None:
        """A client that disconnects does not affect the others, and the response is cached."""
        self.upstream.is_hanging = True
        leaver, stayer = self.begin_get(), self.begin_get()
        leaver.cancel()
        self.failureResultOf(leaver)
        self.upstream.respond()

        self.assertEqual(self.one, self.successResultOf(stayer).manifest)
        self.assertEqual("mirrord; hit; ttl=300", str(self.get().cache))


class HeadTests(ManifestsCase):
    """Clients that resolve by HEAD and then GET by digest, as docker and containerd do."""

    def test_head_costs_no_get(self) -> None:
        """HEAD of an unknown tag causes no GET."""
        self.assertEqual(self.one.digest, self.head().descriptor.digest)
        self.assertEqual(0, self.upstream.count("GET manifest"))

    def test_pending_becomes_cached(self) -> None:
        """A tag that was observed by HEAD is cached when its manifest has been pulled by digest."""
        self.head()
        self.get(self.one.digest)
        self.clock.advance(301)
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)

        self.assertEqual(self.one.digest, self.head().descriptor.digest)
        self.assertEqual(self.one, self.get().manifest)

    def test_pending_does_not_replace_cached(self) -> None:
        """A cached manifest stands in for a newer one that was only observed by HEAD."""
        self.get()
        self.upstream.add_manifest(manifest_body("two"), "latest")
        self.clock.advance(301)
        self.head()
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)

        self.assertEqual(self.one, self.get().manifest)
        self.upstream.degraded = True
        self.assertEqual(self.one.digest, self.head().descriptor.digest)

    def test_fresh_pending_is_fetched(self) -> None:
        """GET of a tag that HEAD has just resolved causes one GET and no second HEAD."""
        self.head()
        self.assertEqual(self.one, self.get().manifest)
        self.assertEqual(1, self.upstream.count("HEAD manifest"))

    def test_pending_that_is_gone(self) -> None:
        """A tag is resolved again if the upstream does not have the observed digest any more."""
        self.head()
        del self.upstream.manifests[self.one.digest]
        two = self.upstream.add_manifest(manifest_body("two"), "latest")

        self.assertEqual(two, self.get().manifest)


class StaleTests(ManifestsCase):
    """The upstream fails, and a manifest is cached."""

    def setUp(self) -> None:
        super().setUp()
        self.get()
        self.clock.advance(400)

    def test_error(self) -> None:
        """A cached tag is served stale while the upstream fails."""
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        pulled = self.get()

        self.assertEqual(self.one, pulled.manifest)
        self.assertEqual("mirrord; fwd=stale; fwd-status=503; detail=stale-if-error", str(pulled.cache))
        self.assertEqual(400, pulled.cache.age_seconds)

    def test_silence(self) -> None:
        """A cached tag is served after three seconds of silence, and at once the next time."""
        self.upstream.is_hanging = True
        waiting = self.begin_get()
        self.clock.advance(2.9)

        self.assertEqual(
            "mirrord; fwd=stale; detail=stale-if-error", str(self.successResultOf(waiting).cache)
        )
        self.assertEqual("mirrord; hit; ttl=-102; detail=stale-if-error", str(self.get().cache))

    def test_recovery_from_silence(self) -> None:
        """After a silence the next request is a new one, and does not join the one that hangs."""
        self.upstream.is_hanging = True
        waiting = self.begin_get()
        self.clock.advance(2.9)
        self.successResultOf(waiting)
        self.upstream.is_hanging, self.upstream.degraded = False, False

        self.assertEqual("mirrord; fwd=stale; fwd-status=200", str(self.get().cache))

    def test_late_response(self) -> None:
        """A response that is too late for its client makes the tag fresh."""
        self.upstream.is_hanging = True
        waiting = self.begin_get()
        self.clock.advance(2.9)
        self.successResultOf(waiting)
        self.upstream.respond()

        self.assertEqual("mirrord; hit; ttl=297", str(self.get().cache))

    def test_gone(self) -> None:
        """A cached tag that the upstream has deleted is unknown, and that is cached for a moment."""
        self.upstream.tags.clear()
        self.failure(ManifestUnknown)
        self.upstream.requests.clear()
        error = self.failure(ManifestUnknown)

        self.assertEqual([], self.upstream.requests)
        self.assertEqual("mirrord; hit; ttl=10", error.cache_status)

    def test_gone_stays_gone(self) -> None:
        """A deleted tag is not served stale when the upstream fails later."""
        self.upstream.tags.clear()
        self.failure(ManifestUnknown)
        self.clock.advance(20)
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)

        self.failure(UpstreamRefused)

    def test_access_revoked(self) -> None:
        """A cached tag is not served if the upstream denies access."""
        self.upstream.failing = Denied("no")
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=403", self.failure(Denied).cache_status)

    def test_too_stale(self) -> None:
        """Nothing is served stale for longer than `stale_if_error`."""
        self.clock.advance(90_000)
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        self.failure(UpstreamRefused)

    def test_limit_on_manifests(self) -> None:
        """A cached manifest is served if a rate limit rejects the request for the new one."""
        self.upstream.add_manifest(manifest_body("two"), "latest")
        self.upstream.failing = UpstreamBusy("limit", upstream_status=429)
        self.upstream.failing_method = "GET manifest"

        self.assertEqual(self.one, self.get().manifest)


class UncachedTests(ManifestsCase):
    """The upstream fails, and nothing is cached."""

    def test_silence(self) -> None:
        """An uncached tag of a silent upstream is a timeout within 25 seconds, never a 404."""
        self.upstream.is_hanging = True
        waiting = self.begin_get()
        self.clock.advance(24)

        self.failureResultOf(waiting, UpstreamTimeout)

    def test_absent(self) -> None:
        """An unknown tag is requested once in ten seconds."""
        self.failure(ManifestUnknown, Tag("none"))
        self.clock.advance(9)
        self.failure(ManifestUnknown, Tag("none"))
        self.assertEqual(1, self.upstream.count("HEAD manifest"))
        self.clock.advance(2)
        self.failure(ManifestUnknown, Tag("none"))

        self.assertEqual(2, self.upstream.count("HEAD manifest"))

    def test_full_disk(self) -> None:
        """A manifest that cannot be stored is served all the same."""
        self.space.can_evict = False
        self.store.threads.failures["_write_once"] = OSError(errno.ENOSPC, "full")
        pulled = self.get()

        self.assertEqual(self.one, pulled.manifest)
        self.assertEqual("mirrord; fwd=uri-miss; fwd-status=200", str(pulled.cache))

    def test_no_room(self) -> None:
        """A manifest for which there is no room is served and not stored."""
        self.space.free = 3
        self.get()

        self.assertFalse(self.store.has(self.one.digest))

    def test_slow_disk(self) -> None:
        """A manifest is served before it is on the disk, to all clients."""
        self.store.threads.hold()

        self.assertEqual(self.one, self.get().manifest)
        self.assertEqual("mirrord; hit; ttl=300", str(self.get().cache))
        self.assertFalse(self.store.has(self.one.digest))
        self.store.threads.release()
        self.assertTrue(self.store.has(self.one.digest))

    def test_pushed_a_moment_later(self) -> None:
        """A digest that was absent a moment ago is found through a new tag at once."""
        two = self.upstream.add_manifest(manifest_body("two"))
        del self.upstream.manifests[two.digest]
        self.failure(ManifestUnknown, two.digest)
        self.upstream.add_manifest(two.body, "new")

        self.assertEqual(two, self.get(Tag("new")).manifest)

    def test_absence_is_small(self) -> None:
        """A cached absence keeps no stack frames of the request."""
        self.failure(ManifestUnknown, Tag("none"))
        error = self.failure(ManifestUnknown, Tag("none"))
        traceback, frames = error.__traceback__, 0
        while traceback is not None:
            traceback, frames = traceback.tb_next, frames + 1

        self.assertLess(frames, 20)
        self.assertIsNone(error.__context__)

    def test_emergency(self) -> None:
        """If the disk is full, content is evicted once and the manifest is stored."""
        self.store.threads.failures["_write_once"] = OSError(errno.ENOSPC, "full")

        self.assertEqual("mirrord; fwd=uri-miss; stored", str(self.get().cache))
        self.assertEqual(1, self.space.emergencies)


class LinkTests(ManifestsCase):
    """Stored manifests are readable through repositories that have them."""

    def test_stored_elsewhere(self) -> None:
        """A stored manifest is not readable through a repository whose upstream does not have it."""
        self.get()
        self.upstream.repositories = {"library/ubuntu"}

        self.failure(ManifestUnknown, self.one.digest, OTHER)

    def test_confirmed(self) -> None:
        """A stored manifest becomes readable through another repository by one HEAD, without a GET."""
        self.get()
        self.upstream.requests.clear()

        self.assertEqual(self.one, self.get(self.one.digest, OTHER).manifest)
        self.assertEqual(["HEAD manifest"], [request.method for request in self.upstream.requests])
        self.assertEqual("mirrord; hit", str(self.get(self.one.digest, OTHER).cache))

    def test_head_without_digest(self) -> None:
        """A response to HEAD without a digest confirms nothing; only a GET does."""
        self.get()
        self.upstream.reports_digests = False
        self.upstream.repositories = {"library/ubuntu"}
        self.upstream.hides_absence = True

        self.failure(ManifestUnknown, self.one.digest, OTHER)
        self.failureResultOf(
            Deferred.fromCoroutine(self.manifests.head(OTHER, self.one.digest)), ManifestUnknown
        )

    def test_wrong_size(self) -> None:
        """A HEAD whose size is not that of the stored manifest confirms nothing; only a GET does."""
        self.get()
        self.upstream.requests.clear()
        larger = Manifest(self.one.digest, self.one.media_type, self.one.body + b" ")
        self.upstream.manifests[self.one.digest] = larger
        self.get(self.one.digest, OTHER)

        self.assertEqual(
            ["HEAD manifest", "GET manifest"], [request.method for request in self.upstream.requests]
        )

    def test_unconfirmed(self) -> None:
        """A stored manifest without a link is an upstream error while the upstream fails, not a 404."""
        self.get()
        self.upstream.failing = UpstreamRefused("down", upstream_status=503)
        self.failure(UpstreamRefused, self.one.digest, OTHER)
