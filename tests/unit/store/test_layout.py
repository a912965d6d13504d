from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store.layout import Layout, footprint


class LayoutTests(SynchronousTestCase):
    layout = Layout(Path("/s"))

    def test_content_stands_two_folders_deep(self) -> None:
        """Blobs and manifests are named by their digest, in folders of its first two digits."""
        digest = Digest.of(b"")
        hexadecimal = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        self.assertEqual(
            Path(f"/s/blobs/sha256/e3/{hexadecimal}"), self.layout.mirrored.path(ContentKind.BLOB, digest)
        )
        self.assertEqual(
            Path(f"/s/manifests/sha256/e3/{hexadecimal}"),
            self.layout.mirrored.path(ContentKind.MANIFEST, digest),
        )

    def test_every_content_is_in_one_fan_out(self) -> None:
        """The folders of the fan-out are those of content, and return its digest."""
        digest = Digest.of(b"x", "sha512")
        path = self.layout.mirrored.path(ContentKind.MANIFEST, digest)
        (folder,) = [each for each in self.layout.mirrored.fan_outs() if each.path == path.parent]
        self.assertEqual(digest, folder.digest_of(path.name))
        self.assertIsNone(folder.digest_of("core"))
        self.assertIsNone(folder.digest_of("0" * 128))

    def test_files_use_whole_blocks(self) -> None:
        """One byte uses a block of the disk, no byte uses none."""
        self.assertEqual([0, 4096, 4096, 8192], [footprint(size) for size in (0, 1, 4096, 4097)])
