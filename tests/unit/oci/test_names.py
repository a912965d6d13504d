"""Names of repositories and tags, and references, against the specification's regular expressions."""

import re
from string import ascii_letters, digits

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, NameInvalid, TagInvalid
from mirrord.oci.names import HOSTED, RepositoryKey, RepositoryName, Tag, parse_reference

# As distribution-spec prints them ("Pulling manifests").
SPEC_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
SPEC_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

NAME_LIKE = st.text(st.sampled_from("ab09._-/A "), max_size=20) | st.from_regex(SPEC_NAME, fullmatch=True)
TAG_LIKE = st.text(st.sampled_from(ascii_letters + digits + "._-:/ "), max_size=140)


class RepositoryTests(SynchronousTestCase):
    @given(NAME_LIKE | st.text())
    def test_like_the_specification(self, text: str) -> None:
        """A text is a repository name exactly where the specification allows it, up to 255 characters."""
        is_name = SPEC_NAME.fullmatch(text) is not None and len(text) <= 255
        try:
            repository = RepositoryName.parse(text)
        except NameInvalid:
            self.assertFalse(is_name)
        else:
            self.assertTrue(is_name)
            self.assertEqual(str(repository), text)

    def test_length(self) -> None:
        """255 characters are a name, 256 are not."""
        self.assertEqual(str(RepositoryName.parse("a" * 255)), "a" * 255)
        self.assertRaises(NameInvalid, RepositoryName.parse, "a" * 256)

    def test_time(self) -> None:
        """A name that almost matches is rejected without backtracking."""
        for text in ("a-" * 127, "a__" * 85, "a" * 254 + "!", "a/" * 127, "a" + "-" * 254):
            self.assertRaises(NameInvalid, RepositoryName.parse, text)

    def test_without_prefix(self) -> None:
        """A prefix is removed only where it is the whole first component and something remains."""
        self.assertEqual(RepositoryName("quay/team/app").without_prefix("quay"), RepositoryName("team/app"))
        for name in ("quay", "quayside/app", "team/quay"):
            self.assertIsNone(RepositoryName(name).without_prefix("quay"))


class TagTests(SynchronousTestCase):
    @given(TAG_LIKE | st.text())
    def test_like_the_specification(self, text: str) -> None:
        """A text is a tag exactly where the specification allows it."""
        try:
            tag = Tag.parse(text)
        except TagInvalid:
            self.assertIsNone(SPEC_TAG.fullmatch(text))
        else:
            self.assertIsNotNone(SPEC_TAG.fullmatch(text))
            self.assertEqual(str(tag), text)

    def test_edges(self) -> None:
        """128 characters are a tag; 129, a leading dot and a line end are not."""
        self.assertEqual(str(Tag.parse("t" * 128)), "t" * 128)
        for text in ("t" * 129, ".t", "-t", "t\n", ""):
            self.assertRaises(TagInvalid, Tag.parse, text)


class ReferenceTests(SynchronousTestCase):
    def test_colon_decides(self) -> None:
        """A reference with a colon is a digest or invalid, one without is a tag or invalid."""
        digest = Digest.of(b"x")
        self.assertEqual(parse_reference(str(digest)), digest)
        self.assertEqual(parse_reference("latest"), Tag("latest"))
        self.assertRaises(DigestInvalid, parse_reference, "sha256:short")
        self.assertRaises(TagInvalid, parse_reference, "a/b")


class RepositoryKeyTests(SynchronousTestCase):
    def test_mirrored(self) -> None:
        """A mirrored repository is formatted as an image name is."""
        key = RepositoryKey("ghcr.io", RepositoryName("team/app"))
        self.assertEqual((str(key), key.is_hosted), ("ghcr.io/team/app", False))

    def test_hosted(self) -> None:
        """A hosted repository is formatted as one of the registry `hosted`."""
        key = RepositoryKey(HOSTED, RepositoryName("team/app"))
        self.assertEqual((str(key), key.is_hosted), ("hosted/team/app", True))
