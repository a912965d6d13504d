"""Holdings: what a fake registry has, in memory."""

import json

import attrs

from tests.fakes.images import OCI_INDEX, Image, Index, Piece


@attrs.define(eq=False)
class Shelf:
    """One repository."""

    tags: dict[str, str] = attrs.field(factory=dict)
    manifests: dict[str, Piece] = attrs.field(factory=dict)
    blobs: dict[str, Piece] = attrs.field(factory=dict)

    def manifest(self, reference: str) -> Piece | None:
        """What a tag or digest names."""
        return self.manifests.get(self.tags.get(reference, reference))

    def referrers(self, digest: str, artifact_type: str | None) -> dict[str, object]:
        """An index of the manifests whose subject is `digest`."""
        found = []
        for piece in self.manifests.values():
            document = json.loads(piece.content)
            kind = document.get("artifactType")
            if document.get("subject", {}).get("digest") == digest and artifact_type in {None, kind}:
                found.append(piece.descriptor(artifactType=kind))
        return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}


@attrs.define(eq=False)
class Holdings:
    """All repositories, by name."""

    shelves: dict[str, Shelf] = attrs.field(factory=dict, init=False)

    def shelf(self, repository: str) -> Shelf:
        """The repository of that name, made if need be."""
        return self.shelves.setdefault(repository, Shelf())

    def put(self, repository: str, content: Image | Index, tag: str | None = None) -> str:
        """Push an image or an index with all that it names; returns the manifest's digest."""
        shelf = self.shelf(repository)
        for image in content.images if isinstance(content, Index) else (content,):
            shelf.manifests[image.manifest.digest] = image.manifest
            shelf.blobs.update({blob.digest: blob for blob in image.blobs})
        shelf.manifests[content.manifest.digest] = content.manifest
        if tag is not None:
            shelf.tags[tag] = content.manifest.digest
        return content.manifest.digest

    def put_blob(self, repository: str, content: bytes) -> Piece:
        """Push a lone blob."""
        piece = Piece("application/octet-stream", content)
        self.shelf(repository).blobs[piece.digest] = piece
        return piece

    def blob(self, digest: str) -> Piece | None:
        """A blob of any repository."""
        return next((shelf.blobs[digest] for shelf in self.shelves.values() if digest in shelf.blobs), None)
