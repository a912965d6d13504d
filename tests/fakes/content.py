"""The content of a fake registry, in memory."""

import json

import attrs

from tests.fakes.images import OCI_INDEX, Image, Index, Piece, digest_of


@attrs.define(eq=False)
class RepositoryContent:
    """The content of one repository; `listed` are descriptors in every list of referrers, true or not."""

    tags: dict[str, str] = attrs.field(factory=dict)
    manifests: dict[str, Piece] = attrs.field(factory=dict)
    blobs: dict[str, Piece] = attrs.field(factory=dict)
    listed: list[dict[str, object]] = attrs.field(factory=list)

    def manifest(self, reference: str) -> Piece | None:
        """Return the manifest that a tag or a digest names."""
        return self.manifests.get(self.tags.get(reference, reference))

    def referrers(self, digest: str, artifact_type: str | None) -> dict[str, object]:
        """Return an index of the manifests whose subject is `digest`."""
        found = list(self.listed)
        for piece in self.manifests.values():
            document = json.loads(piece.content)
            kind = document.get("artifactType")
            if document.get("subject", {}).get("digest") == digest and artifact_type in {None, kind}:
                found.append(piece.descriptor(artifactType=kind))
        return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}


@attrs.define(eq=False)
class RegistryContent:
    """The content of all repositories, by name."""

    repositories: dict[str, RepositoryContent] = attrs.field(factory=dict, init=False)

    def repository(self, name: str) -> RepositoryContent:
        """Return the repository of a name, created if it does not exist."""
        return self.repositories.setdefault(name, RepositoryContent())

    def put(self, name: str, content: Image | Index, tag: str | None = None) -> str:
        """Push an image or an index with its content; return the digest of its manifest."""
        repository = self.repository(name)
        for image in content.images if isinstance(content, Index) else (content,):
            repository.manifests[image.manifest.digest] = image.manifest
            repository.blobs.update({blob.digest: blob for blob in image.blobs})
        repository.manifests[content.manifest.digest] = content.manifest
        if tag is not None:
            repository.tags[tag] = content.manifest.digest
        return content.manifest.digest

    def put_blob(self, name: str, content: bytes) -> Piece:
        """Push a single blob."""
        piece = Piece("application/octet-stream", content)
        self.repository(name).blobs[piece.digest] = piece
        return piece

    def put_zeros(self, name: str, size: int, count: int) -> list[str]:
        """Push blobs of zero bytes under digests that they do not have; return these. They share memory."""
        piece, pieces = Piece("application/octet-stream", bytes(size)), self.repository(name).blobs
        digests = [digest_of(b"%d" % number) for number in range(count)]
        for digest in digests:
            pieces[digest] = piece
        return digests

    def put_manifest(self, name: str, manifest: Piece, tag: str | None = None) -> Piece:
        """Push a manifest, whether or not the repository has what it references."""
        repository = self.repository(name)
        repository.manifests[manifest.digest] = manifest
        if tag is not None:
            repository.tags[tag] = manifest.digest
        return manifest

    def blob(self, digest: str) -> Piece | None:
        """Return a blob of any repository."""
        found = (each.blobs.get(digest) for each in self.repositories.values())
        return next(filter(None, found), None)
