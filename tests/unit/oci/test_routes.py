"""Routes: every path of the API, and any other request line."""

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    DigestInvalid,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    QueryTooLong,
    RegistryError,
    TagInvalid,
)
from mirrord.oci.names import RepositoryName, Tag
from mirrord.oci.routes import (
    MAX_PAGE,
    BlobRoute,
    CatalogRoute,
    ManifestRoute,
    Page,
    Ping,
    ReferrersRoute,
    Route,
    TagsRoute,
    Target,
    UploadRoute,
    parse,
)

DIGEST = Digest.of(b"x")
APP = RepositoryName("team/app")

ROUTES: list[tuple[str, Route]] = [
    ("/v2", Ping()),
    ("/v2/", Ping()),
    ("/v2/_catalog?n=5&last=a", CatalogRoute(Page(5, "a"))),
    ("/v2/team/app/manifests/latest", ManifestRoute(APP, Tag("latest"))),
    (f"/v2/team/app/manifests/{DIGEST}", ManifestRoute(APP, DIGEST)),
    (f"/v2/team/app/manifests/{quote(str(DIGEST))}", ManifestRoute(APP, DIGEST)),
    (f"/v2/team/app/blobs/{DIGEST}", BlobRoute(APP, DIGEST)),
    ("/v2/team/app/blobs/uploads", UploadRoute(repository=APP)),
    ("/v2/team/app/blobs/uploads/", UploadRoute(repository=APP)),
    ("/v2/team/app/blobs/uploads/session", UploadRoute(repository=APP, session="session")),
    (
        f"/v2/team/app/blobs/uploads/session?digest={DIGEST}",
        UploadRoute(repository=APP, session="session", digest=DIGEST),
    ),
    (f"/v2/team/app/blobs/uploads/?mount={DIGEST}", UploadRoute(repository=APP, mount=DIGEST)),
    (
        f"/v2/team/app/blobs/uploads/?mount={DIGEST}&from=library/x&digest-algorithm=sha512",
        UploadRoute(repository=APP, mount=DIGEST, origin=RepositoryName("library/x")),
    ),
    (f"/v2/team/app/manifests/{DIGEST}?tag=b&tag=a&tag=b", ManifestRoute(APP, DIGEST, (Tag("b"), Tag("a")))),
    (
        f"/v2/team/app/referrers/{DIGEST}?last=x",
        ReferrersRoute(repository=APP, digest=DIGEST, artifact_type=None, last="x"),
    ),
    ("/v2/team/app/tags/list", TagsRoute(APP, Page())),
    ("/v2/team/app/tags/list?n=0", TagsRoute(APP, Page(0))),
    (f"/v2/team/app/tags/list?n={MAX_PAGE + 1}", TagsRoute(APP, Page(MAX_PAGE))),
    (f"/v2/team/app/referrers/{DIGEST}", ReferrersRoute(repository=APP, digest=DIGEST, artifact_type=None)),
    (
        f"/v2/team/app/referrers/{DIGEST}?artifactType=a%2Fb",
        ReferrersRoute(repository=APP, digest=DIGEST, artifact_type="a/b"),
    ),
    (
        "/v2/blobs/manifests/tags/manifests/list",
        ManifestRoute(RepositoryName("blobs/manifests/tags"), Tag("list")),
    ),
    (f"/v2/tags/list/blobs/{DIGEST}", BlobRoute(RepositoryName("tags/list"), DIGEST)),
]

REFUSED: list[tuple[str, type[RegistryError]]] = [
    (f"/v2/x/referrers/{DIGEST}?artifactType={'a' * 256}", NameInvalid),
    ("", NameInvalid),
    ("*", NameInvalid),
    ("http://other/v2/", NameInvalid),
    ("/", NameUnknown),
    ("/v1/", NameUnknown),
    ("/a/b/v2/", NameUnknown),
    ("/v2/team", NameUnknown),
    ("/v2/manifests/latest", NameUnknown),
    ("/v2/team/app/manifests/", NameUnknown),
    ("/v2/team/app/tags/list/", NameUnknown),
    ("//v2/", NameInvalid),
    ("/v2//team/app/tags/list", NameInvalid),
    ("/v2/../v2/", NameInvalid),
    ("/v2/%2e%2e/app/tags/list", NameInvalid),
    ("/v2/team%2Fapp/tags/list", NameInvalid),
    ("/v2/a%00b/tags/list", NameInvalid),
    ("/v2/a%0Ab/tags/list", NameInvalid),
    ("/v2/%C3%A4/tags/list", NameInvalid),
    ("/v2/Team/app/tags/list", NameInvalid),
    ("/v2/team/app/manifests/.x", TagInvalid),
    ("/v2/team/app/manifests/sha256:x", DigestInvalid),
    ("/v2/team/app/blobs/latest", DigestInvalid),
    ("/v2/team/app/tags/list?n=x", PaginationNumberInvalid),
    ("/v2/team/app/tags/list?n=-1", PaginationNumberInvalid),
    ("/v2/team/app/tags/list?n=", PaginationNumberInvalid),
    ("/v2/team/app/tags/list?n=9999999999", PaginationNumberInvalid),
    ("/v2/team/app/tags/list?n=1&n=2", NameInvalid),
    ("/v2/?ns=docker.io&ns=quay.io", NameInvalid),
    ("/v2/?ns=%ff", NameInvalid),
    ("/v2/?" + "&".join("a=1" for _ in range(65)), QueryTooLong),
]

WORDS = [
    "/",
    "v2",
    "team",
    "manifests",
    "blobs",
    "uploads",
    "tags",
    "list",
    "referrers",
    "_catalog",
    "latest",
    "sha256:",
    "%2F",
    "%00",
    "%zz",
    "%",
    "..",
    ".",
    "?",
    "&",
    "=",
    "ns",
    "n",
    "5",
    "last",
    "\x7f",
    "é",
]
PIECES = st.lists(st.sampled_from([*WORDS, str(DIGEST)])).map(lambda pieces: "".join(pieces).encode())


class RouteTests(SynchronousTestCase):
    def test_routes(self) -> None:
        """Every path of the API is matched from the right, so a name can contain the API's own words."""
        for uri, route in ROUTES:
            self.assertEqual(parse(uri.encode()), Target(route))

    def test_upstream(self) -> None:
        """Prefix and namespace are returned separately from the route."""
        ping = Ping()
        self.assertEqual(parse(b"/quay/v2/"), Target(ping, prefix="quay"))
        self.assertEqual(parse(b"/v2/?ns=reg.io%3A5000"), Target(ping, namespace="reg.io:5000"))
        self.assertEqual(parse(b"/quay/v2/?ns=x"), Target(ping, prefix="quay", namespace="x"))
        self.assertEqual(parse(b"/v2/?ns="), Target(ping, namespace=""))
        self.assertEqual(parse(b"/v2/v2/tags/list"), Target(TagsRoute(RepositoryName("v2"), Page())))

    def test_refused(self) -> None:
        """A path outside the API is rejected with the specification's code."""
        for uri, error in REFUSED:
            self.assertRaises(error, parse, uri.encode())

    @given(st.binary() | PIECES | PIECES.map(lambda tail: b"/v2/" + tail))
    def test_any_bytes(self, uri: bytes) -> None:
        """No exception other than a RegistryError of 400, 404 or 414 is raised."""
        try:
            parse(uri)
        except RegistryError as error:
            self.assertIn(error.status, {400, 404, 414})

    @given(
        st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)?(/[a-z0-9]+){0,3}", fullmatch=True).filter(
            lambda name: len(name) <= 255
        ),
        st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True),
    )
    def test_any_name(self, name: str, tag: str) -> None:
        """A valid name and tag are parsed unchanged."""
        target = parse(f"/v2/{name}/manifests/{tag}".encode())
        self.assertEqual(target, Target(ManifestRoute(RepositoryName(name), Tag(tag))))
