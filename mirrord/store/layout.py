"""The layout of a store on the disk.

    <root>/
        lock                          locked by the one daemon that uses this store
        probe                         written now and then, to see whether that is possible (disk.py)
        command                       the socket for commands, if it has no other folder (config/folders.py)
        index.sqlite  -wal  -shm      links, tags, media types, last use (schema.py)
        index.sqlite.new              an index that is being rebuilt (recovery.py)
        index.sqlite.broken-<n>       an index that could not be read, set aside
        index.sqlite.condemned        marks a damaged index: the next start sets it aside
        index.sqlite.backup           written by earlier versions, read once if there is no journal
        blobs/<alg>/ab/<hex>          blobs of mirrored repositories: whole, verified, never written again
        manifests/<alg>/ab/<hex>      their manifests, verbatim
        partials/<alg>-<hex>          the first bytes of a blob, to be resumed
        partials/broken-<kind>-<alg>-<hex>   content found damaged, never served
        scratch/<name>                being written or being deleted; emptied at every start
        reserve                       space in which the index can be opened on a full disk (reserve.py)
        spare/<n>                     empty files, each of which keeps an inode (spare_files.py)

    <hosted>/                         on any file system; by default a folder of the state directory
        lock                          locked by the one daemon that uses it
        hosted.journal-<n>            the changes of hosted repositories (journal.py)
        hosted.snapshot-<n>           all of them, as of the beginning of that journal file (snapshots.py)
        blobs/  manifests/            content of hosted repositories, as above; eviction never touches it
        quarantine/<kind>-<alg>-<hex> content that no record accounts for (quarantine.py)
        uploads/<session>             the bytes of a blob pushed so far (uploads.py)
        scratch/<name>                as above

`ab` are the first two digits of `<hex>`: 256 folders keep a listing short. Each of the two folders is on one
file system, so that a rename commits. Everything is readable by the daemon's own user only: private images
are stored here. Nothing in this module touches the disk.
"""

from collections.abc import Iterator
from pathlib import Path

import attrs

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid

FOLDER_MODE = 0o700
FILE_MODE = 0o600
BLOCK_BYTES = 4096

_ALGORITHMS = ("sha256", "sha512")
_FOLDERS = {ContentKind.BLOB: "blobs", ContentKind.MANIFEST: "manifests"}


def footprint(size: int) -> int:
    """Return the disk space of a file of `size` bytes: whole blocks, so that a million tiny files count."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


@attrs.frozen
class FanOut:
    """One folder of content: all of `kind` whose digest begins with `prefix` (`sha256:ab`)."""

    kind: ContentKind
    prefix: str
    path: Path

    def digest_of(self, name: str) -> Digest | None:
        """Return the digest of a file in this folder; None if the name is not one of ours."""
        algorithm, _, digits = self.prefix.partition(":")
        try:
            return Digest.parse(f"{algorithm}:{name}") if name.startswith(digits) else None
        except DigestInvalid:
            return None


@attrs.frozen
class ContentFolder:
    """The paths of content in a folder: that of mirrored repositories, of hosted ones, or of a backup."""

    root: Path

    def path(self, kind: ContentKind, digest: Digest) -> Path:
        """Return the path of a committed blob or a stored manifest."""
        return Path(self.root, _FOLDERS[kind], digest.algorithm, digest.encoded[:2], digest.encoded)

    @property
    def scratch(self) -> Path:
        """The folder that is emptied at every start."""
        return self.root / "scratch"

    def fan_outs(self) -> Iterator[FanOut]:
        """Iterate over all folders of content, whether they exist or not."""
        for kind, folder in _FOLDERS.items():
            for algorithm in _ALGORITHMS:
                for number in range(256):
                    digits = f"{number:02x}"
                    path = self.root / folder / algorithm / digits
                    yield FanOut(kind, f"{algorithm}:{digits}", path)


@attrs.frozen
class Layout:
    """The paths of one store: of its folder, and of that of hosted repositories, by default inside it."""

    root: Path
    hosted_root: Path = attrs.field(
        default=attrs.Factory(lambda layout: layout.root / "hosted", takes_self=True)
    )
    mirrored: ContentFolder = attrs.field(init=False)
    hosted: ContentFolder = attrs.field(init=False)

    @mirrored.default
    def _mirrored(self) -> ContentFolder:
        return ContentFolder(self.root)

    @hosted.default
    def _hosted(self) -> ContentFolder:
        return ContentFolder(self.hosted_root)

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.root / "lock"

    @property
    def index(self) -> Path:
        """The SQLite file."""
        return self.root / "index.sqlite"

    @property
    def copy(self) -> Path:
        """The copy of the hosted tables that earlier versions made."""
        return self.root / "index.sqlite.backup"

    @property
    def condemned(self) -> Path:
        """The file that marks the index as damaged."""
        return self.root / "index.sqlite.condemned"

    @property
    def probe(self) -> Path:
        """The file that is written to see whether the store is writable."""
        return self.root / "probe"

    @property
    def partials(self) -> Path:
        """The folder of unfinished downloads and of damaged content."""
        return self.root / "partials"

    @property
    def reserve(self) -> Path:
        """The file that keeps space for opening the index."""
        return self.root / "reserve"

    @property
    def spare(self) -> Path:
        """The folder of empty files whose inodes are kept."""
        return self.root / "spare"

    @property
    def uploads(self) -> Path:
        """The folder of unfinished uploads."""
        return self.hosted_root / "uploads"

    @property
    def quarantine(self) -> Path:
        """The folder of hosted content that no record accounts for."""
        return self.hosted_root / "quarantine"

    def content(self, kind: ContentKind, digest: Digest, *, is_hosted: bool) -> Path:
        """Return the path of a committed blob or a stored manifest."""
        return (self.hosted if is_hosted else self.mirrored).path(kind, digest)

    def candidates(self, kind: ContentKind, digest: Digest, *, is_hosted: bool) -> tuple[Path, Path]:
        """Return where a file is, and where it is while it moves from one folder to the other."""
        return self.content(kind, digest, is_hosted=is_hosted), self.content(
            kind, digest, is_hosted=not is_hosted
        )

    def partial(self, digest: Digest) -> Path:
        """Return the path of the partial of a blob."""
        return self.partials / f"{digest.algorithm}-{digest.encoded}"

    def broken(self, kind: ContentKind, digest: Digest) -> Path:
        """Return the path to which damaged content is moved."""
        return self.partials / f"broken-{kind}-{digest.algorithm}-{digest.encoded}"
