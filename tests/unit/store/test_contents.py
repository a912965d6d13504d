from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store.contents import BodyCache

A, B, C = (Digest.of(name) for name in (b"a", b"b", b"c"))


class BodyCacheTests(SynchronousTestCase):
    def test_the_least_recently_used_is_evicted_first(self) -> None:
        """The least recently read body is evicted when another needs the room."""
        cache = BodyCache(10)
        cache.put(ContentKind.BLOB, A, b"aaaaa")
        cache.put(ContentKind.BLOB, B, b"bbbbb")
        cache.get(ContentKind.BLOB, A)
        cache.put(ContentKind.BLOB, C, b"ccccc")
        self.assertEqual(
            [b"aaaaa", None, b"ccccc"], [cache.get(ContentKind.BLOB, digest) for digest in (A, B, C)]
        )

    def test_a_large_body_is_not_cached(self) -> None:
        """A body of more than half the cache evicts nothing."""
        cache = BodyCache(10)
        cache.put(ContentKind.BLOB, A, b"aaaaa")
        cache.put(ContentKind.BLOB, B, b"bbbbbb")
        self.assertIsNone(cache.get(ContentKind.BLOB, B))
        self.assertEqual(b"aaaaa", cache.get(ContentKind.BLOB, A))

    def test_kinds_are_apart(self) -> None:
        """A manifest is not found as a blob."""
        cache = BodyCache(10)
        cache.put(ContentKind.MANIFEST, A, b"a")
        self.assertIsNone(cache.get(ContentKind.BLOB, A))

    @given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.binary(max_size=12)), max_size=30))
    def test_it_is_bounded(self, puts: list[tuple[Digest, bytes]]) -> None:
        """Whatever is put, the bytes are counted correctly and never exceed the limit."""
        cache = BodyCache(16)
        for digest, body in puts:
            cache.put(ContentKind.BLOB, digest, body)
            cached = [cache.get(ContentKind.BLOB, each) or b"" for each in (A, B, C)]
            self.assertEqual(sum(map(len, cached)), cache.total_bytes)
            self.assertLessEqual(cache.total_bytes, 16)
