"""Tests of mirrord/admin/explanation.py."""

import attrs

from mirrord.admin.explanation import Explainer
from mirrord.admin.results import Explanation, Permissions
from mirrord.last_clients import LastClients
from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName, Tag
from mirrord.oci.references import ImageReference
from mirrord.repository import BlobState, ManifestState, TagState
from tests.unit.admin.cases import (
    APP,
    DEBIAN,
    EMPTY,
    HOSTED_APP,
    UBUNTU,
    WEB,
    OperatorCase,
    image,
    index,
    layer,
)

CONFIG = Digest.of(EMPTY)
ABC = layer(b"abc")
PUSHERS = Permissions(("anonymous",), ("user:ann",), ())


class MirroredExplanationTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.last_clients = LastClients(lambda: 77.0)
        self.clock.advance(1000)

    def explain(self, reference: str = "ubuntu") -> Explanation:
        explainer = Explainer(router=self.router, permissions=lambda _: None, last_clients=self.last_clients)
        return self.result(explainer.explain(ImageReference.parse(reference)))

    def test_unknown(self) -> None:
        """An unknown reference is explained by its repository, and why the upstream is not requested."""
        nothing = Explanation(
            reference=ImageReference.parse("ubuntu"),
            upstream="docker.io",
            repository=UBUNTU.repository,
            is_known=False,
        )
        self.assertEqual(nothing, self.explain())

        self.repositories.problem = "it failed a moment ago"
        self.assertEqual(attrs.evolve(nothing, why_not="it failed a moment ago"), self.explain())

    def test_cached(self) -> None:
        """A cached tag is explained by its manifest, its blobs and its last client; it can be served."""
        one = image(ABC)
        self.store.cache(UBUNTU, one, b"abc", EMPTY)
        self.store.observe(UBUNTU, "latest", one, 800.0)
        self.last_clients.record(UBUNTU, one.digest, "10.0.0.7")
        self.repositories.problem = "it failed a moment ago"

        found = self.explain()

        self.assertEqual(TagState(one.digest, 800.0, 1100.0, "fresh"), found.tag)
        self.assertEqual(
            ManifestState(one.digest, one.media_type, len(one.body), is_held=True), found.manifest
        )
        self.assertEqual((BlobState(CONFIG, 2, "held", 2), BlobState(ABC.digest, 3, "held", 3)), found.blobs)
        self.assertEqual(("10.0.0.7", 77.0), (found.last_client, found.last_asked_at))
        self.assertEqual((True, None), (found.is_known, found.why_not))

        self.clock.advance(100)
        tag = self.explain().tag
        assert tag is not None
        self.assertEqual("stale", tag.state)

    def test_pending(self) -> None:
        """A tag that was only observed is pending, and its manifest is not stored."""
        one = image()
        self.store.observe(UBUNTU, "latest", one, 990.0)
        self.repositories.problem = "it failed a moment ago"

        found = self.explain()

        self.assertEqual(TagState(one.digest, 990.0, 1290.0, "pending"), found.tag)
        self.assertEqual(
            ManifestState(one.digest, one.media_type, len(one.body), is_held=False), found.manifest
        )
        self.assertEqual(((), "it failed a moment ago"), (found.blobs, found.why_not))

    def test_cached_by_another_repository(self) -> None:
        """A manifest that only another repository may read is not cached in this one."""
        one = image(ABC)
        self.store.cache(DEBIAN, one, b"abc")
        self.store.observe(UBUNTU, "latest", one, 990.0)

        found = self.explain()

        assert found.manifest is not None
        self.assertEqual((False, ()), (found.manifest.is_held, found.blobs))

    def test_unconfirmed(self) -> None:
        """A blob that is stored for another repository does not count as stored until it is confirmed."""
        one = image(ABC)
        self.store.cache(UBUNTU, one, EMPTY)
        self.store.cache(DEBIAN, b"abc")
        self.repositories.problem = "it failed a moment ago"

        found = self.explain(f"ubuntu@{one.digest}")

        self.assertEqual(BlobState(ABC.digest, 3, "unconfirmed", 3), found.blobs[1])
        self.assertEqual("it failed a moment ago", found.why_not)

    def test_blobs(self) -> None:
        """Each blob is cached, being downloaded, left as a partial, or absent."""
        held, downloading, partial, absent = (
            layer(state) for state in (b"held", b"downloading", b"partial", b"absent")
        )
        one = image(held, downloading, partial, absent)
        self.store.cache(UBUNTU, one, EMPTY, b"held")
        self.store.park(partial.digest, b"p")
        self.hub.add_blob(b"downloading")
        opened = self.result(self.repositories.mirrored(UBUNTU).open_blob(downloading.digest))
        self.addCleanup(opened.blob.close)
        self.hub.bodies[0].send(2)

        blobs = self.explain(f"ubuntu@{one.digest}").blobs

        self.assertEqual(
            [
                BlobState(CONFIG, 2, "held", 2),
                BlobState(held.digest, 4, "held", 4),
                BlobState(downloading.digest, 11, "downloading", 2),
                BlobState(partial.digest, 7, "partial", 1),
                BlobState(absent.digest, 6, "absent", 0),
            ],
            list(blobs),
        )

    def test_index(self) -> None:
        """The blobs of an index are those of its stored images, each once."""
        amd, arm = image(layer(b"amd"), layer(b"base")), image(layer(b"arm"))
        also = image(layer(b"base"), note="also")
        both = index(amd64=amd, arm64=arm, riscv64=also)
        self.store.cache(UBUNTU, amd, also, both)
        self.store.observe(UBUNTU, "latest", both, 800.0)

        digests = [blob.digest for blob in self.explain().blobs]
        self.assertEqual([CONFIG, layer(b"amd").digest, layer(b"base").digest], digests)

    def test_blob(self) -> None:
        """The digest of a blob is explained as a blob."""
        self.store.cache(UBUNTU, image(ABC), b"abc")
        found = self.explain(f"ubuntu@{ABC.digest}")
        self.assertEqual((None, True), (found.manifest, found.is_known))
        self.assertEqual(["held"], [blob.state for blob in found.blobs])

    def test_denied(self) -> None:
        """A repository that the configuration denies is explained with the denial, and with its content."""
        one = image(ABC)
        self.store.cache(RepositoryKey("docker.io", RepositoryName("private/x")), one)
        found = self.explain(f"private/x@{one.digest}")
        self.assertIn("not configured", found.why_not or "")
        self.assertTrue(found.is_known)
        self.assertIn("does not know", self.explain("nowhere.example/x").why_not or "")


class HostedExplanationTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.last_clients = LastClients(lambda: 77.0)
        self.clock.advance(70)

    def explain(self, text: str = "team/app:1") -> Explanation:
        explainer = Explainer(
            router=self.router,
            permissions=lambda repository: PUSHERS if repository.key == HOSTED_APP else None,
            last_clients=self.last_clients,
        )
        return self.result(explainer.explain(ImageReference.parse(text, lambda name: name == APP)))

    def push(self) -> Manifest:
        one = image(ABC)
        self.repositories.push(APP, EMPTY, b"abc", one, tags=["1"])
        return one

    def test_pushed(self) -> None:
        """A hosted image is explained by its blobs, its last client and the permissions."""
        one = self.push()
        self.last_clients.record(HOSTED_APP, one.digest, "10.0.0.7")

        found = self.explain()

        self.assertEqual((HOSTED, APP, True), (found.upstream, found.repository, found.is_known))
        self.assertEqual(TagState(one.digest, 70.0, None, "hosted"), found.tag)
        self.assertEqual(ManifestState(one.digest, one.media_type, len(one.body), True), found.manifest)
        self.assertEqual((BlobState(CONFIG, 2, "held", 2), BlobState(ABC.digest, 3, "held", 3)), found.blobs)
        self.assertEqual(("10.0.0.7", None, PUSHERS), (found.last_client, found.why_not, found.may))

    def test_lost(self) -> None:
        """Content that the disk has lost has to be pushed again."""
        one = self.push()
        self.store.lose(ContentKind.BLOB, ABC.digest)
        found = self.explain()
        self.assertIn("push it again", found.why_not or "")
        self.assertEqual(
            (BlobState(CONFIG, 2, "held", 2), BlobState(ABC.digest, 3, "absent", 0)), found.blobs
        )
        self.store.lose(ContentKind.MANIFEST, one.digest)
        self.assertIn("push it again", self.explain().why_not or "")

    def test_blob(self) -> None:
        """A blob is explained as a blob; it is present only if it is linked to its own repository."""
        one = self.push()
        self.repositories.push(WEB, b"abc")
        self.assertEqual((BlobState(ABC.digest, 3, "held", 3),), self.explain(f"team/app@{ABC.digest}").blobs)
        self.result(self.repositories.hosted(HOSTED_APP).delete_blob(ABC.digest))
        self.assertTrue(self.store.has(ABC.digest))
        self.assertIn(BlobState(ABC.digest, 3, "absent", 0), self.explain(f"team/app@{one.digest}").blobs)

    def test_unknown(self) -> None:
        """A reference that was never pushed is unknown, and needs no upstream."""
        found = self.explain("team/app:2")
        self.assertEqual((False, None, None), (found.is_known, found.tag, found.why_not))

    def test_not_hosted_any_more(self) -> None:
        """A repository that the configuration no longer hosts cannot be pulled."""
        self.push()
        self.repositories.is_hosting = False
        self.assertIn("no longer hosts", self.explain().why_not or "")

    def test_typed_names(self) -> None:
        """A name without a registry means the hosted repository, one with a registry that registry's."""
        is_hosted = {APP, RepositoryName("ubuntu"), RepositoryName("ghcr.io/a")}.__contains__
        for text, registry, name in (
            ("team/app:1", HOSTED, "team/app"),
            ("ubuntu", HOSTED, "ubuntu"),
            ("docker.io/team/app", "docker.io", "team/app"),
            ("docker.io/ubuntu", "docker.io", "library/ubuntu"),
            ("debian", "docker.io", "library/debian"),
            ("ghcr.io/a", "ghcr.io", "a"),
        ):
            parsed = ImageReference.parse(text, is_hosted)
            self.assertEqual((registry, name), (parsed.registry, str(parsed.repository)))
        self.assertEqual("team/app:1", str(ImageReference(registry=HOSTED, repository=APP, tag=Tag("1"))))
