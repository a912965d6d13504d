"""The layout of a store on the disk.

    <root>/
        lock                          locked by the one daemon that uses this store
        probe                         written now and then, to see whether that is possible (disk.py)
        command                       the socket for commands, if it has no other folder (config/folders.py)
        index.sqlite  -wal  -shm      links, tags, media types, last use (schema.py)
        index.sqlite.broken-<n>       an index that could not be read, set aside
        index.sqlite.backup           a copy of the index's tables of hosted repositories (copies.py)
        index.sqlite.condemned        marks a damaged index: the next start sets it aside
        blobs/<alg>/ab/<hex>          committed blobs: whole, verified, never written again
        manifests/<alg>/ab/<hex>      stored manifests, verbatim
        uploads/<session>             the bytes of a blob pushed so far (uploads.py)
        partials/<alg>-<hex>          the first bytes of a blob, to be resumed
        partials/broken-<kind>-<alg>-<hex>   content found damaged, never served
        scratch/<name>                being written or being deleted; emptied at every start

`ab` are the first two digits of `<hex>`: 256 folders keep a listing short. All of it is on one file
system, so that a rename commits. Everything is readable by the daemon's own user only: private images
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
class Layout:
    """The paths of one store."""

    root: Path

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
        """The copy of the index's tables of hosted repositories."""
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
    def uploads(self) -> Path:
        """The folder of unfinished uploads."""
        return self.root / "uploads"

    @property
    def scratch(self) -> Path:
        """The folder that is emptied at every start."""
        return self.root / "scratch"

    def content(self, kind: ContentKind, digest: Digest) -> Path:
        """Return the path of a committed blob or a stored manifest."""
        return self.root / _FOLDERS[kind] / digest.algorithm / digest.encoded[:2] / digest.encoded

    def partial(self, digest: Digest) -> Path:
        """Return the path of the partial of a blob."""
        return self.partials / f"{digest.algorithm}-{digest.encoded}"

    def broken(self, kind: ContentKind, digest: Digest) -> Path:
        """Return the path to which damaged content is moved."""
        return self.partials / f"broken-{kind}-{digest.algorithm}-{digest.encoded}"

    def fan_outs(self) -> Iterator[FanOut]:
        """Iterate over all folders of content, whether they exist or not."""
        for kind, folder in _FOLDERS.items():
            for algorithm in _ALGORITHMS:
                for number in range(256):
                    digits = f"{number:02x}"
                    path = self.root / folder / algorithm / digits
                    yield FanOut(kind, f"{algorithm}:{digits}", path)
