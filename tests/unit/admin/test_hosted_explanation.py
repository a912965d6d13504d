from mirrord.admin.explanation import Explainer
from mirrord.admin.results import Explanation, Permissions
from mirrord.last_clients import LastClients
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName, Tag
from mirrord.oci.references import ImageReference
from mirrord.repository import BlobState, ManifestState, TagState
from tests.fakes.hosted_repositories import PUSHED_AT
from tests.unit.admin.case import OperateCase, image, layer

APP = RepositoryName("team/app")
PUSHERS = Permissions(("anonymous",), ("user:ann",), ())


class HostedInquiryTests(OperateCase):
    def setUp(self) -> None:
        super().setUp()
        self.visitors = LastClients(lambda: 77.0)

    def explain(self, text: str = "team/app:1") -> Explanation:
        explainer = Explainer(
            router=self.router,
            permissions=lambda repository: PUSHERS if repository.key == RepositoryKey(HOSTED, APP) else None,
            last_clients=self.visitors,
        )
        return self.result(explainer.explain(ImageReference.parse(text, lambda name: name == APP)))

    def test_pushed(self) -> None:
        """A hosted image is told with its blobs, who asked last, and who may do what."""
        one = image(layer(b"abc"))
        self.hosted.push(APP, one, "1")
        self.shelves.manifests[one.digest] = one
        self.shelves.blobs[layer(b"abc").digest] = 3
        self.visitors.record(RepositoryKey(HOSTED, APP), one.digest, "10.0.0.7")

        told = self.explain()

        self.assertEqual((HOSTED, APP, True), (told.upstream, told.repository, told.is_known))
        self.assertEqual(TagState(one.digest, PUSHED_AT, None, "hosted"), told.tag)
        self.assertEqual(ManifestState(one.digest, one.media_type, len(one.body), True), told.manifest)
        self.assertEqual((BlobState(layer(b"abc").digest, 3, "held", 3),), told.blobs)
        self.assertEqual(("10.0.0.7", None, PUSHERS), (told.last_client, told.why_not, told.may))

    def test_lost(self) -> None:
        """Of what the disk has lost it is told that it has to be pushed again."""
        one = image(layer(b"abc"))
        self.hosted.push(APP, one, "1")
        for is_manifest_there in (False, True):
            if is_manifest_there:
                self.shelves.manifests[one.digest] = one
            told = self.explain()
            assert told.why_not is not None
            self.assertIn("push it again", told.why_not)
        self.assertEqual((BlobState(layer(b"abc").digest, 3, "absent", 0),), told.blobs)

    def test_blob(self) -> None:
        """A blob is told as such; it is there only if its own repository holds it."""
        one = image(layer(b"abc"))
        self.hosted.push(APP, one)
        self.shelves.blobs[layer(b"abc").digest] = 3
        digest = layer(b"abc").digest
        self.assertEqual((BlobState(digest, 3, "held", 3),), self.explain(f"team/app@{digest}").blobs)
        del self.hosted.held[APP, digest, False]
        self.shelves.manifests[one.digest] = one
        self.assertEqual((BlobState(digest, 3, "absent", 0),), self.explain(f"team/app@{one.digest}").blobs)

    def test_unknown(self) -> None:
        """What nobody has pushed is not known; nor does it need an upstream."""
        told = self.explain("team/app:2")
        self.assertEqual((False, None, None), (told.is_known, told.tag, told.why_not))

    def test_not_hosted_any_more(self) -> None:
        """Of what the configuration has come to leave out it is told that nobody gets it."""
        self.hosted.push(APP, image(), "1")
        self.is_hosted = False
        why_not = self.explain().why_not
        assert why_not is not None
        self.assertIn("no longer hosts", why_not)

    def test_typed(self) -> None:
        """A name without a registry is the hosted repository's, with one it is that registry's."""
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
