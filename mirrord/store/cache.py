"""A cache of bodies: small blobs and manifests that leave without touching the disk."""

from collections import OrderedDict

import attrs

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest


@attrs.define(eq=False)
class BodyCache:
    """Bodies of content, at most `max_bytes` in all; what was used longest ago goes first."""

    _max_bytes: int
    total_bytes: int = attrs.field(default=0, init=False)
    _bodies: OrderedDict[tuple[ContentKind, Digest], bytes] = attrs.field(factory=OrderedDict, init=False)

    def get(self, kind: ContentKind, digest: Digest) -> bytes | None:
        """What is cached of this content; counts as a use."""
        body = self._bodies.get((kind, digest))
        if body is not None:
            self._bodies.move_to_end((kind, digest))
        return body

    def put(self, kind: ContentKind, digest: Digest, body: bytes) -> None:
        """Cache a body, unless it would push out more than half of all others."""
        self.drop(kind, digest)
        if len(body) > self._max_bytes // 2:
            return
        self._bodies[kind, digest] = body
        self.total_bytes += len(body)
        while self.total_bytes > self._max_bytes:
            self.drop(*next(iter(self._bodies)))

    def drop(self, kind: ContentKind, digest: Digest) -> None:
        """Forget what is cached of this content."""
        self.total_bytes -= len(self._bodies.pop((kind, digest), b""))
