"""Images that real clients can unpack, of random bytes: the same seed makes the same image."""

import io
import json
import random
import tarfile
from collections.abc import Sequence
from hashlib import sha256

import attrs

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"

_BLOCK = 1024 * 1024


def digest_of(content: bytes) -> str:
    """Return the sha256 digest."""
    return f"sha256:{sha256(content).hexdigest()}"


@attrs.frozen
class Piece:
    """Content with its media type."""

    media_type: str
    content: bytes = attrs.field(repr=False)
    digest: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of(self.content))

    @property
    def size(self) -> int:
        return len(self.content)

    def descriptor(self, **more: object) -> dict[str, object]:
        """Return its descriptor in a manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **more}


@attrs.frozen
class Image:
    """A manifest with its content."""

    manifest: Piece
    config: Piece
    layers: tuple[Piece, ...]

    @property
    def blobs(self) -> tuple[Piece, ...]:
        return (self.config, *self.layers)


@attrs.frozen
class Index:
    """An image index and its images."""

    manifest: Piece
    images: tuple[Image, ...]


def random_bytes(size: int, seed: int) -> bytes:
    """Return bytes that do not compress; about 1 GB/s."""
    dice = random.Random(seed)
    return b"".join(dice.randbytes(min(_BLOCK, size - at)) for at in range(0, size, _BLOCK))


def make_layer(size: int, seed: int) -> Piece:
    """Return an uncompressed tar with one random file of `size` bytes."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(f"blob-{seed}")
        entry.size = size
        entry.mode = 0o644
        tar.addfile(entry, io.BytesIO(random_bytes(size, seed)))
    return Piece(OCI_LAYER, archive.getvalue())


def make_image(
    sizes: Sequence[int] = (64 * 1024,),
    seed: int = 1,
    architecture: str = "amd64",
    base: Sequence[Piece] = (),
) -> Image:
    """Return an image with the layers of `base` and a layer of each of `sizes` bytes."""
    layers = (*base, *(make_layer(size, seed * 1000 + place) for place, size in enumerate(sizes)))
    config = Piece(
        OCI_CONFIG,
        _json(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Cmd": ["/nothing"], "Labels": {"seed": str(seed)}},
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
                "history": [{"created_by": f"layer {layer.digest}"} for layer in layers],
            }
        ),
    )
    manifest = Piece(
        OCI_MANIFEST,
        _json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": config.descriptor(),
                "layers": [layer.descriptor() for layer in layers],
            }
        ),
    )
    return Image(manifest, config, layers)


def make_index(images: Sequence[Image], architectures: Sequence[str] = ("amd64", "arm64")) -> Index:
    """Return an index of images, one per architecture."""
    manifests = [
        image.manifest.descriptor(platform={"os": "linux", "architecture": architecture})
        for image, architecture in zip(images, architectures, strict=False)
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    return Index(Piece(OCI_INDEX, _json(document)), tuple(images))


def make_attachment(subject: Piece, artifact_type: str = "application/vnd.example.signature") -> Image:
    """Return an image whose subject is `subject`, such as a signature."""
    empty = Piece("application/vnd.oci.empty.v1+json", b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": empty.descriptor(),
        "layers": [empty.descriptor()],
        "subject": subject.descriptor(),
    }
    return Image(Piece(OCI_MANIFEST, _json(document)), empty, (empty,))


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
