"""Manifests: `/v2/<repository>/manifests/<reference>`.

The Accept header is not looked at: what is stored is what its digest names, and the
specification lets a registry answer with it (reference/protocol.md, section 1.4).
"""

from typing import ClassVar

import attrs

from mirrord.listen.answer import Header
from mirrord.oci.digest import Digest
from mirrord.oci.names import Reference
from mirrord.oci.routes import ManifestRoute
from mirrord.pull.outcome import Outcome
from mirrord.web.conditions import IMMUTABLE, etag, is_held
from mirrord.web.ports import Manifests
from mirrord.web.resource import Asked, Reply


@attrs.frozen
class ManifestResource:
    """Answers with manifests, or with what they are."""

    kind: ClassVar[str] = "manifest"

    _manifests: Manifests

    async def reply(self, asked: Asked) -> Reply:
        """A manifest; 304 for who holds it, without asking the upstream for its bytes."""
        route = asked.target.route
        assert isinstance(route, ManifestRoute)  # noqa: S101 - the root dispatches by type
        held = asked.header(b"If-None-Match")
        if asked.is_head or held is not None:
            seen = await self._manifests.head(asked.source, route.reference)
            what = seen.descriptor
            if is_held(held, what.digest):
                return Reply(seen.outcome, _validators(route.reference, what.digest, seen.outcome), 304)
            if asked.is_head:
                headers = _headers(what.media_type, route.reference, what.digest, seen.outcome)
                return Reply(seen.outcome, headers, length=what.size)
        pulled = await self._manifests.get(asked.source, route.reference)
        manifest = pulled.manifest
        headers = _headers(manifest.media_type, route.reference, manifest.digest, pulled.outcome)
        return Reply.of_bytes(pulled.outcome, manifest.body, *headers)


def _headers(media_type: str, reference: Reference, digest: Digest, outcome: Outcome) -> tuple[Header, ...]:
    content_type = (b"Content-Type", media_type.encode("latin-1", "replace"))
    return (content_type, *_validators(reference, digest, outcome))


def _validators(reference: Reference, digest: Digest, outcome: Outcome) -> tuple[Header, ...]:
    return (
        (b"Docker-Content-Digest", str(digest).encode("ascii")),
        (b"ETag", etag(digest).encode("ascii")),
        IMMUTABLE if isinstance(reference, Digest) else _freshness(outcome),
    )


def _freshness(outcome: Outcome) -> Header:
    """For how long a cache after us may keep what a tag names.

    It counts from when the upstream was asked, as Age does: what is left of the ttl, and the age.
    """
    if outcome.ttl_seconds is None or outcome.ttl_seconds <= 0:
        return (b"Cache-Control", b"no-cache")
    return (b"Cache-Control", b"max-age=%d" % (outcome.ttl_seconds + (outcome.age_seconds or 0)))
