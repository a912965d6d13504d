"""Tests of mirrord/api/tags.py."""

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.api.tags import paginate
from mirrord.oci.errors import NameUnknown
from mirrord.oci.manifests import OCI_INDEX, Manifest
from mirrord.oci.names import RepositoryName
from mirrord.oci.routes import Page, TagsRoute, Target, parse
from tests.unit.api.cases import APICase, HostedAPICase

PATH = "/v2/library/x/tags/list"


class TagsTests(APICase):
    def setUp(self) -> None:
        super().setUp()
        self.repositories.tags = ("1.0", "1.1", "latest")

    def test_all(self) -> None:
        """Without a page size all tags are listed, under the requested name."""
        got = self.get(PATH)

        self.assertEqual({"name": "library/x", "tags": ["1.0", "1.1", "latest"]}, json.loads(got.body))
        self.assertEqual("application/json", got.headers["content-type"])
        self.assertEqual("mirrord; hit", got.headers["cache-status"])
        self.assertNotIn("link", got.headers)

    def test_prefixed(self) -> None:
        """The name in the response is the requested one, with its prefix."""
        self.assertEqual("quay/a/b", json.loads(self.get("/v2/quay/a/b/tags/list").body)["name"])

    def test_page(self) -> None:
        """A page has a link to the next one, the last page has none."""
        got = self.get(f"{PATH}?n=2")
        self.assertEqual(["1.0", "1.1"], json.loads(got.body)["tags"])
        self.assertEqual('</v2/library/x/tags/list?n=2&last=1.1>; rel="next"', got.headers["link"])

        got = self.get(f"{PATH}?n=2&last=1.1")
        self.assertEqual(["latest"], json.loads(got.body)["tags"])
        self.assertNotIn("link", got.headers)

    def test_link(self) -> None:
        """The link keeps `ns` and the prefix."""
        link = self.get("/quay/v2/a/tags/list?ns=quay.io&n=1").headers["link"]

        self.assertEqual('</quay/v2/a/tags/list?n=1&last=1.0&ns=quay.io>; rel="next"', link)

    def test_none(self) -> None:
        """A page of size 0 is empty, without a link."""
        got = self.get(f"{PATH}?n=0")

        self.assertEqual([], json.loads(got.body)["tags"])
        self.assertNotIn("link", got.headers)

    def test_empty(self) -> None:
        """A repository without tags has an empty list, not null."""
        self.repositories.tags = ()

        self.assertEqual([], json.loads(self.get(PATH).body)["tags"])

    def test_last_need_not_exist(self) -> None:
        """A page begins after `last`, whether that is a tag or not."""
        self.assertEqual(["1.1", "latest"], json.loads(self.get(f"{PATH}?last=1.05").body)["tags"])

    def test_unknown(self) -> None:
        """A repository that the upstream does not have is unknown."""
        self.repositories.error = NameUnknown("no")

        self.assert_error(self.get(PATH), 404, "NAME_UNKNOWN")


class HostedTagsTests(HostedAPICase):
    def test_slices(self) -> None:
        """Thousands of tags are read in slices."""
        names = [f"{number:04}" for number in range(3000)]
        manifest = Manifest.parse(b'{"schemaVersion": 2, "manifests": []}', OCI_INDEX)
        self.hosted.push(RepositoryName("team/app"), manifest, tags=names)

        self.assertEqual(names, json.loads(self.get("/v2/team/app/tags/list").body)["tags"])
        self.assertEqual(3, self.hosted_clock.yields)


class PaginateTests(SynchronousTestCase):
    @given(st.sets(st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,8}\Z")), st.integers(1, 4))
    def test_following(self, names: set[str], limit: int) -> None:
        """Following the links lists every name once, in order."""
        expected, listed = sorted(names), []
        target = Target(TagsRoute(RepositoryName("x"), Page(limit)), "hub", "docker.io")
        for _ in range(len(expected) + 1):
            assert isinstance(target.route, TagsRoute)
            page = target.route.page
            rest = [name for name in expected if name > page.last]
            shown, link = paginate(page, rest, target, "x/tags/list")
            listed += shown
            if not link:
                break
            target = parse(link[0][1].split(b">")[0].removeprefix(b"<"))

        self.assertEqual(expected, listed)
        self.assertEqual(("hub", "docker.io"), (target.prefix, target.namespace))
