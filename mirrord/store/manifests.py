"""Stored manifests: small, whole, verbatim."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import attrs

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError
from mirrord.oci.manifests import MAX_MANIFEST_BYTES, Manifest
from mirrord.oci.names import RepositoryKey
from mirrord.store import disk
from mirrord.store.contents import Contents
from mirrord.store.damaged import DamagedContent
from mirrord.store.layout import Layout
from mirrord.store.mirrored_index import MirroredIndex
from mirrord.store.schema import ContentRow
from mirrord.store.threads import Threads


@attrs.define(eq=False, kw_only=True)
class ManifestStore:
    """Manifests by digest alone; implements `ManifestFiles` of `mirrored/ports.py`.

    One that is read from the disk is verified again. Coroutines raise OSError if the disk failed; what was to
    be stored then is not.
    """

    _layout: Layout
    _contents: Contents
    _index: MirroredIndex
    _damaged: DamagedContent
    _threads: Threads
    _being_stored: dict[Digest, Manifest] = attrs.field(factory=dict, init=False)
    _numbers: Iterator[int] = attrs.field(factory=count, init=False)

    async def read(self, digest: Digest) -> Manifest | None:
        """Return a stored manifest, verbatim and verified; None if there is none. Mostly from memory."""
        if digest in self._being_stored:
            return self._being_stored[digest]
        row = self._contents.get(ContentKind.MANIFEST, digest)
        body = None if row is None else self._contents.bodies.get(ContentKind.MANIFEST, digest)
        if row is None or body is None:
            return await self._read_file(digest, row)
        self._contents.use(digest)
        return Manifest(digest, row.media_type, body)

    async def store(self, source: RepositoryKey, manifest: Manifest) -> None:
        """Store a verified manifest: `read` finds it from the call on, it is on the disk on return.

        Links it to `source`, and nothing that it references: a reference is no permission
        (docs/architecture.md, invariant 7). Pending tags of `source` that name it become cached once it is
        on the disk: a tag must not lose its cached manifest to one that could not be stored.
        """
        digest = manifest.digest
        self._index.add_links(source, [manifest.descriptor])
        if self._contents.get(ContentKind.MANIFEST, digest) is None:
            self._being_stored[digest] = manifest
            try:
                await self._write(manifest)
            finally:
                self._being_stored.pop(digest, None)
        self._index.manifest_stored(source, manifest)

    async def store_hosted(self, manifest: Manifest) -> None:
        """Store a verified and claimed manifest in the hosted folder; it is on the disk on return."""
        await self._write(manifest, is_hosted=True)

    async def _write(self, manifest: Manifest, *, is_hosted: bool = False) -> None:
        await self._contents.removals.finished(ContentKind.MANIFEST, manifest.digest)
        folder = self._layout.hosted if is_hosted else self._layout.mirrored
        scratch = folder.scratch / f"manifest-{next(self._numbers)}"
        path = folder.path(ContentKind.MANIFEST, manifest.digest)
        await self._threads.sync(_write_once, scratch, path, manifest.body)
        self._add(manifest, is_known=False)

    async def _read_file(self, digest: Digest, row: ContentRow | None) -> Manifest | None:
        """Read and verify a manifest; one without a row was stored just before an earlier run ended."""
        hosted_type = self._contents.hosted_type(ContentKind.MANIFEST, digest)
        is_hosted = hosted_type is not None if row is None else row.is_hosted
        paths = self._layout.candidates(ContentKind.MANIFEST, digest, is_hosted=is_hosted)
        is_removed = self._contents.removals.is_running(ContentKind.MANIFEST, digest)
        if row is None and (is_removed or not any(path.exists() for path in paths)):
            return None
        media_type = (row.media_type if row is not None else "") or hosted_type or ""
        try:
            manifest = await self._threads.read(read_manifest, paths, digest, media_type)
        except FileNotFoundError:
            self._contents.drop(ContentKind.MANIFEST, digest)
            return None
        known = self._contents.get(ContentKind.MANIFEST, digest)
        if manifest is None:
            self._damaged.set_aside(ContentKind.MANIFEST, digest)
        elif known is not None or row is None:
            self._add(manifest, is_known=known is not None and known.media_type != "")
        return manifest

    def _add(self, manifest: Manifest, *, is_known: bool) -> None:
        if not is_known:
            self._contents.add(ContentKind.MANIFEST, manifest.digest, len(manifest.body), manifest.media_type)
        self._contents.use(manifest.digest)
        self._contents.bodies.put(ContentKind.MANIFEST, manifest.digest, manifest.body)


def _write_once(scratch: Path, path: Path, body: bytes) -> None:
    """Write a file, unless there is one with these bytes already, whose name may not be durable yet."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size == len(body) and path.read_bytes() == body:
            disk.sync_folder(path.parent)
            return
    disk.write_committed(scratch, path, body)


def read_manifest(paths: Sequence[Path], digest: Digest, media_type: str) -> Manifest | None:
    """Read a manifest from the first of these files; None if it is damaged. A media type "" is inferred.

    Raises:
        FileNotFoundError: There is none.
        OSError: The disk failed.
    """
    with os.fdopen(disk.open_first(paths), "rb") as file:
        body = file.read(MAX_MANIFEST_BYTES + 1)
    if media_type:
        return Manifest(digest, media_type, body) if digest.matches(body) else None
    try:
        return Manifest.parse(body, None, digest)
    except RegistryError:
        return None
