"""Image references are parsed and formatted as docker does."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, NameInvalid, RegistryError, TagInvalid
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from mirrord.oci.references import LATEST, ImageReference

DIGEST = Digest.of(b"x")

_COMPONENTS = st.from_regex(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", fullmatch=True).filter(
    lambda text: len(text) < 40
)
_PATHS = st.lists(_COMPONENTS, min_size=1, max_size=3).map("/".join)
_REGISTRIES = st.sampled_from(
    ["docker.io", "ghcr.io", "localhost", "registry.lan:5000", "[::1]:5000", "10.0.0.1"]
)
_TAGS = st.none() | st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True).map(Tag)


@st.composite
def _references(draw: st.DrawFn) -> ImageReference:
    """References as typed: on Docker Hub a repository has at least two components."""
    registry, path = draw(_REGISTRIES), draw(_PATHS)
    if registry == "docker.io" and "/" not in path:
        path = f"library/{path}"
    digest = draw(st.none() | st.binary(max_size=4).map(Digest.of))
    return ImageReference(registry=registry, repository=RepositoryName(path), tag=draw(_TAGS), digest=digest)


class ParsingTests(SynchronousTestCase):
    def check(
        self, text: str, registry: str, repository: str, reference: object, familiar: str | None = None
    ) -> None:
        parsed = ImageReference.parse(text)
        self.assertEqual((registry, repository), (parsed.registry, str(parsed.repository)))
        self.assertEqual(reference, parsed.manifest_reference)
        self.assertEqual(familiar or text, str(parsed))

    def test_docker_hub(self) -> None:
        """A name without a host is Docker Hub's, and a single component is an official image."""
        self.check("ubuntu", "docker.io", "library/ubuntu", LATEST)
        self.check("ubuntu:24.04", "docker.io", "library/ubuntu", Tag("24.04"))
        self.check("foo/bar", "docker.io", "foo/bar", LATEST)
        self.check("docker.io/ubuntu", "docker.io", "library/ubuntu", LATEST, "ubuntu")
        self.check("index.docker.io/library/ubuntu:1", "docker.io", "library/ubuntu", Tag("1"), "ubuntu:1")
        self.check("library/foo/bar", "docker.io", "library/foo/bar", LATEST)

    def test_ambiguous_names(self) -> None:
        """A name on Docker Hub that reads as another registry, or as a digest, is printed with docker.io."""
        self.check("docker.io/quay.io/app", "docker.io", "quay.io/app", LATEST)
        self.check(f"docker.io/sha256:{'a' * 64}", "docker.io", "library/sha256", Tag("a" * 64))

    def test_other_registries(self) -> None:
        """A first component with a dot or a port, or localhost, is a host; case-insensitive."""
        self.check("ghcr.io/foo/bar:1", "ghcr.io", "foo/bar", Tag("1"))
        self.check("localhost:5000/x", "localhost:5000", "x", LATEST)
        self.check("localhost/x", "localhost", "x", LATEST)
        self.check("registry:5000/x:y", "registry:5000", "x", Tag("y"))
        self.check("[::1]:5000/x", "[::1]:5000", "x", LATEST)
        self.check("GHCR.io/foo", "ghcr.io", "foo", LATEST, "ghcr.io/foo")

    def test_digests(self) -> None:
        """A digest takes precedence over a tag."""
        self.check(f"ubuntu@{DIGEST}", "docker.io", "library/ubuntu", DIGEST)
        self.check(f"ghcr.io/foo:1@{DIGEST}", "ghcr.io", "foo", DIGEST)

    def test_nonsense(self) -> None:
        """An invalid reference is rejected with the specification's error."""
        for text, error in {
            "": NameInvalid,
            "Ubuntu": NameInvalid,
            "Foo/bar": NameInvalid,
            "ghcr.io/": NameInvalid,
            "ghcr.io/Foo": NameInvalid,
            "-.io/foo": NameInvalid,
            "ubuntu:": TagInvalid,
            "ubuntu:a b": TagInvalid,
            "ubuntu@": DigestInvalid,
            "ubuntu@sha256:12": DigestInvalid,
            str(DIGEST): NameInvalid,
            "https://ghcr.io/foo": NameInvalid,
            "x" * 256: NameInvalid,
        }.items():
            with self.subTest(text):
                self.assertRaises(error, ImageReference.parse, text)

    def test_source(self) -> None:
        """The name of a repository is what a client types for it."""
        self.assertEqual(
            "ubuntu", str(ImageReference.of(RepositoryKey("docker.io", RepositoryName("library/ubuntu"))))
        )
        self.assertEqual(
            "quay.io/a/b", str(ImageReference.of(RepositoryKey("quay.io", RepositoryName("a/b"))))
        )

    @given(_references())
    def test_round_trip(self, reference: ImageReference) -> None:
        """Formatting and parsing round-trips."""
        self.assertEqual(reference, ImageReference.parse(str(reference)))

    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any text is a reference that round-trips, or a RegistryError."""
        try:
            parsed = ImageReference.parse(text)
        except RegistryError:
            return
        self.assertEqual(parsed, ImageReference.parse(str(parsed)))
