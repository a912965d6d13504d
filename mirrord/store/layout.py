"""Where everything stands on the disk.

    <root>/
        lock                          held by the one daemon that uses this store
        probe                         written now and then, to see whether one can (probe.py)
        index.sqlite  -wal  -shm      links, tags, media types, last use (tables.py)
        index.sqlite.broken-<n>       an index that could not be read, set aside
        index.sqlite.backup           a copy of what the index knows of hosted repositories (copies.py)
        index.sqlite.condemned        that the index was found damaged: the next start sets it aside
        blobs/<alg>/ab/<hex>          committed blobs: whole, verified, never written again
        manifests/<alg>/ab/<hex>      stored manifests, verbatim
        uploads/<session>             what was pushed so far of a blob (uploads.py)
        partials/<alg>-<hex>          a prefix of a blob, to be resumed
        partials/broken-<kind>-<alg>-<hex>   content found damaged, never served
        scratch/<name>                being written or being deleted; emptied at every start

`ab` are the first two digits of `<hex>`: 256 folders keep a listing short. All of it is on one file
system, so that a rename commits. Everything is for the daemon's own user: private images pass here.
Nothing here touches the disk.
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
    """What a file of `size` bytes takes of a disk: whole blocks, so that a million tiny files count."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


@attrs.frozen
class FanOut:
    """One folder of content: all of `kind` whose digest begins with `prefix` (`sha256:ab`)."""

    kind: ContentKind
    prefix: str
    path: Path

    def digest_of(self, name: str) -> Digest | None:
        """The digest of a file in this folder; None for a stranger's."""
        algorithm, _, digits = self.prefix.partition(":")
        digest = _digest_of(algorithm, name)
        return digest if name.startswith(digits) else None


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
        """The copy of what is known of hosted repositories."""
        return self.root / "index.sqlite.backup"

    @property
    def condemned(self) -> Path:
        """The mark of a damaged index."""
        return self.root / "index.sqlite.condemned"

    @property
    def probe(self) -> Path:
        """The file that is written to see whether one can."""
        return self.root / "probe"

    @property
    def partials(self) -> Path:
        """The folder of what is unfinished."""
        return self.root / "partials"

    @property
    def uploads(self) -> Path:
        """The folder of what is being pushed."""
        return self.root / "uploads"

    @property
    def scratch(self) -> Path:
        """The folder of which nothing survives a restart."""
        return self.root / "scratch"

    def content(self, kind: ContentKind, digest: Digest) -> Path:
        """A committed blob or a stored manifest."""
        return self.root / _FOLDERS[kind] / digest.algorithm / digest.encoded[:2] / digest.encoded

    def partial(self, digest: Digest) -> Path:
        """What an unfinished download of this blob has written."""
        return self.partials / f"{digest.algorithm}-{digest.encoded}"

    def broken(self, kind: ContentKind, digest: Digest) -> Path:
        """Where damaged content is set aside."""
        return self.partials / f"broken-{kind}-{digest.algorithm}-{digest.encoded}"

    def fan_outs(self) -> Iterator[FanOut]:
        """Every folder that content may be in."""
        for kind, folder in _FOLDERS.items():
            for algorithm in _ALGORITHMS:
                for number in range(256):
                    digits = f"{number:02x}"
                    path = self.root / folder / algorithm / digits
                    yield FanOut(kind, f"{algorithm}:{digits}", path)


def _digest_of(algorithm: str, encoded: str) -> Digest | None:
    try:
        return Digest.parse(f"{algorithm}:{encoded}")
    except DigestInvalid:
        return None
