"""Digests: grammar and matching."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid

SHA256_OF_NOTHING = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class ParseTests(SynchronousTestCase):
    def test_known_algorithms(self) -> None:
        """sha256 and sha512 digests are parsed, and formatted as they were."""
        for algorithm in ("sha256", "sha512"):
            text = f"{algorithm}:{hashlib.new(algorithm, b'').hexdigest()}"
            self.assertEqual(str(Digest.parse(text)), text)
        self.assertEqual(Digest.of(b""), Digest.parse(SHA256_OF_NOTHING))

    def test_refused(self) -> None:
        """Any other text, or unsupported algorithm, is DIGEST_INVALID."""
        hexadecimal = "a" * 64
        for text in (
            "",
            ":",
            "sha256",
            "sha256:",
            f":{hexadecimal}",
            f"sha256:{hexadecimal[1:]}",
            f"sha256:{hexadecimal}a",
            f"sha256:{hexadecimal.upper()}",
            f"sha256:{'g' * 64}",
            "sha256:" + "\u0661" * 64,
            f"SHA256:{hexadecimal}",
            f"sha256:{hexadecimal}\n",
            f" sha256:{hexadecimal}",
            f"sha512:{hexadecimal}",
            f"blake3:{hexadecimal}",
            f"md5:{'a' * 32}",
            f"sha256:../{hexadecimal}",
        ):
            self.assertRaises(DigestInvalid, Digest.parse, text)

    @given(st.text() | st.from_regex(r"[a-z0-9+._-]{1,8}:[a-zA-Z0-9=_-]{0,130}"))
    def test_any_text(self, text: str) -> None:
        """A text is a digest that is formatted the same, or DIGEST_INVALID."""
        try:
            digest = Digest.parse(text)
        except DigestInvalid:
            return
        self.assertEqual(str(digest), text)

    def test_detail_is_bounded(self) -> None:
        """The detail of an error contains a bounded part of the text."""
        with self.assertRaises(DigestInvalid) as caught:
            Digest.parse("sha256:" + "a" * 10_000)
        self.assertEqual(len(str(caught.exception.detail)), 256)


class ContentTests(SynchronousTestCase):
    @given(st.binary(), st.sampled_from(["sha256", "sha512"]))
    def test_matches_its_own_bytes_only(self, content: bytes, algorithm: str) -> None:
        """A digest matches the bytes that it was computed from and no others."""
        digest = Digest.of(content, algorithm)
        self.assertTrue(digest.matches(content))
        self.assertFalse(digest.matches(content + b"\0"))

    @given(st.lists(st.binary()), st.sampled_from(["sha256", "sha512"]))
    def test_hasher(self, chunks: list[bytes], algorithm: str) -> None:
        """Hashing in pieces computes the digest of the whole."""
        digest = Digest.of(b"".join(chunks), algorithm)
        hasher = digest.hasher()
        for chunk in chunks:
            hasher.update(chunk)
        self.assertEqual(hasher.hexdigest(), digest.encoded)
