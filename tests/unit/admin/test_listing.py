import errno

from mirrord.admin.listing import RepositoryLister
from mirrord.admin.results import ListedRepository, ListedTag
from mirrord.oci.content import TagObservation, TagRecord
from mirrord.oci.errors import NameInvalid
from mirrord.oci.names import HOSTED, RepositoryName, Tag
from tests.fakes.hosted_repositories import PUSHED_AT
from tests.unit.admin.case import DEBIAN, QUAY, UBUNTU, OperateCase, image, layer


class ListingTests(OperateCase):
    def setUp(self) -> None:
        super().setUp()
        self.lister = RepositoryLister(self.router, self.shelves.flush, self.clock)

    def list(self, pattern: str = "*") -> list[ListedRepository]:
        return self.all_of(self.lister.list(pattern))

    def test_repository(self) -> None:
        """A repository is listed with its tags and with what of it is on the disk."""
        held, seen = image(layer(b"abc")), image(note="seen")
        self.shelves.hold(UBUNTU, held)
        self.shelves.links[UBUNTU, seen.digest] = seen.descriptor
        self.shelves.known[UBUNTU, Tag("1")] = TagRecord(cached=TagObservation(held.descriptor, 100.0))
        self.shelves.known[UBUNTU, Tag("2")] = TagRecord(
            cached=TagObservation(held.descriptor, 100.0), pending=TagObservation(seen.descriptor, 200.0)
        )

        (listed,) = self.list()

        self.assertEqual(
            ("ubuntu", 1, 1, 60.0), (listed.name, listed.manifests, listed.blobs, listed.last_used)
        )
        self.assertEqual(len(held.body) + 3, listed.bytes)
        self.assertEqual(
            (
                ListedTag(Tag("1"), held.digest, 100.0, 400.0, True),
                ListedTag(Tag("2"), seen.digest, 200.0, 500.0, False),
            ),
            listed.tags,
        )

    def test_hosted(self) -> None:
        """A hosted repository is listed before others, under the name that clients call it by."""
        app, one = RepositoryName("team/app"), image(layer(b"abc"))
        self.shelves.hold(UBUNTU, image())
        self.hosted.push(app, one, "1")
        self.shelves.manifests[one.digest] = one

        listed, mirrored = self.list()

        tags = (ListedTag(Tag("1"), one.digest, PUSHED_AT, None, True),)
        self.assertEqual(
            ListedRepository(
                upstream=HOSTED,
                repository=app,
                name="team/app",
                tags=tags,
                manifests=1,
                blobs=0,
                bytes=len(one.body),
                last_used=PUSHED_AT,
            ),
            listed,
        )
        self.assertEqual("ubuntu", mirrored.name)
        self.shelves.blobs[layer(b"abc").digest] = 3
        for pattern in ("team/*", "hosted/*"):
            self.assertEqual([1], [one.blobs for one in self.list(pattern)])

    def test_pattern(self) -> None:
        """The pattern is for the name as it is typed, or as it is in full."""
        for source in (UBUNTU, DEBIAN, QUAY):
            self.shelves.hold(source, image())
        for pattern, names in {
            "*": ["debian", "ubuntu", "quay.io/a/b"],
            "u*": ["ubuntu"],
            "docker.io/*": ["debian", "ubuntu"],
            "quay.io/a/b": ["quay.io/a/b"],
            "x": [],
        }.items():
            self.assertEqual(names, [listed.name for listed in self.list(pattern)])

    def test_long_pattern(self) -> None:
        """A pattern that would be read for seconds is refused."""
        self.shelves.hold(UBUNTU, image())
        self.assertEqual([], self.list("[" * 512))
        _, ended = self.listen(self.lister.list("[" * 513))
        self.failureResultOf(ended, NameInvalid)

    def test_full_disk(self) -> None:
        """What cannot be brought up to date is listed as it was."""
        self.shelves.hold(UBUNTU, image())
        self.shelves.trouble = OSError(errno.ENOSPC, "full")
        self.assertEqual(1, len(self.list()))
