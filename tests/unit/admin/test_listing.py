"""Tests of mirrord/admin/listing.py."""

import errno
import json

from mirrord.admin.listing import RepositoryLister
from mirrord.admin.results import ListedRepository, ListedTag, document, encode
from mirrord.oci.content import ContentKind, TagObservation
from mirrord.oci.errors import NameInvalid
from mirrord.oci.names import HOSTED, Tag
from mirrord.store.layout import footprint
from mirrord.store.schema import PAGE_ROWS
from tests.unit.admin.cases import APP, DEBIAN, EMPTY, QUAY, UBUNTU, OperatorCase, image, layer


def as_page(*tags: ListedTag) -> str:
    return ",".join(encode(document(tag)) for tag in tags)


class RepositoryListerTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock.advance(250)
        self.lister = RepositoryLister(self.router, self.store.opened.browser.flush, self.clock)

    def list(self, pattern: str = "*") -> list[ListedRepository]:
        return self.all_of(self.lister.list(pattern))

    def test_mirrored(self) -> None:
        """A repository is listed with its tags and the part of it that is on the disk."""
        cached, observed = image(layer(b"abc")), image(note="observed")
        self.store.cache(UBUNTU, b"abc", cached)
        self.store.observe(UBUNTU, "1", cached, 100.0)
        self.store.observe(UBUNTU, "2", cached, 100.0)
        self.clock.advance(10)
        self.store.observe(UBUNTU, "2", observed, 200.0)
        self.store.link(UBUNTU, observed.descriptor)

        (listed,) = self.list()

        self.assertEqual(
            ("ubuntu", 1, 1, 260.0), (listed.name, listed.manifests, listed.blobs, listed.last_used)
        )
        self.assertEqual(footprint(len(cached.body)) + footprint(3), listed.bytes)
        self.assertEqual(
            (
                as_page(
                    ListedTag(Tag("1"), cached.digest, 100.0, 400.0, True),
                    ListedTag(Tag("2"), observed.digest, 200.0, 500.0, False),
                ),
            ),
            listed.tags,
        )

    def test_many_tags(self) -> None:
        """The tags of a repository are encoded a page at a time, and sent in as many pieces."""
        cached = image()
        self.store.cache(UBUNTU, cached)
        names = [f"t{number:04}" for number in range(3 * PAGE_ROWS + 1)]
        for name in names:
            self.store.opened.index.observe_tag(UBUNTU, Tag(name), TagObservation(cached.descriptor, 0.0))

        (listed,) = self.list()

        self.assertEqual([PAGE_ROWS] * 3 + [1], [len(json.loads(f"[{page}]")) for page in listed.tags])
        pieces = list(listed.json())
        self.assertEqual(6, len(pieces))
        document = json.loads("".join(pieces))
        self.assertEqual(names, [tag["tag"] for tag in document["tags"]])
        self.assertEqual(1, document["manifests"])

    def test_hosted(self) -> None:
        """A hosted repository is listed before the others, under the name that clients use."""
        one = image(layer(b"abc"))
        self.store.cache(UBUNTU, image())
        self.repositories.push(APP, EMPTY, b"abc", one, tags=["1"])
        self.store.lose(ContentKind.BLOB, layer(b"abc").digest)
        self.clock.advance(10)

        listed, mirrored = self.list()

        tags = (as_page(ListedTag(Tag("1"), one.digest, 250.0, None, True)),)
        self.assertEqual(
            ListedRepository(
                upstream=HOSTED,
                repository=APP,
                name="team/app",
                tags=tags,
                manifests=1,
                blobs=1,
                bytes=len(one.body) + len(EMPTY),
                last_used=250.0,
            ),
            listed,
        )
        self.assertEqual("ubuntu", mirrored.name)
        self.store.add_blob(b"abc")
        for pattern in ("team/*", "hosted/*"):
            self.assertEqual([2], [one.blobs for one in self.list(pattern)])

    def test_pattern(self) -> None:
        """The pattern matches the short or the full name."""
        for key in (UBUNTU, DEBIAN, QUAY):
            self.store.cache(key, image())
        for pattern, names in {
            "*": ["debian", "ubuntu", "quay.io/a/b"],
            "u*": ["ubuntu"],
            "docker.io/*": ["debian", "ubuntu"],
            "quay.io/a/b": ["quay.io/a/b"],
            "x": [],
        }.items():
            self.assertEqual(names, [listed.name for listed in self.list(pattern)])

    def test_long_pattern(self) -> None:
        """A pattern that takes seconds to match is rejected."""
        self.store.cache(UBUNTU, image())
        self.assertEqual([], self.list("[" * 512))
        _, ended = self.listen(self.lister.list("[" * 513))
        self.failureResultOf(ended, NameInvalid)

    def test_full_disk(self) -> None:
        """If the listings cannot be brought up to date, the older ones are shown."""
        self.store.cache(UBUNTU, image())
        self.store.cache(DEBIAN, image())
        self.store.opened.browser.delete_tag(UBUNTU, Tag("x"))
        self.store.threads.failures["_run"] = OSError(errno.ENOSPC, "full")
        self.assertEqual(2, len(self.list()))
        self.assertEqual({}, self.store.threads.failures)
