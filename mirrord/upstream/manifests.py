"""ManifestRequests: request manifests from a registry, and verify what it responds."""

from functools import partial
from typing import Any

import attrs
from twisted.internet.threads import deferToThreadPool
from twisted.web.http_headers import Headers

from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    DigestInvalid,
    ManifestInvalid,
    ManifestUnknown,
    UpstreamCorrupt,
    UpstreamRefused,
)
from mirrord.oci.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)
from mirrord.oci.names import Reference, RepositoryName
from mirrord.upstream.api import RegistryAPI, UpstreamRequest, refusal
from mirrord.upstream.retry import Deadline
from mirrord.upstream.transport import UpstreamResponse

_TYPES = frozenset({OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST})

ACCEPT = f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}, */*;q=0.1"
"""All types, whatever the client accepts: quay and MCR send schema 1 otherwise."""

_THREAD_BYTES = 64 * 1024
"""Manifests from this size on are hashed in a thread."""


@attrs.frozen
class ManifestRequests:
    """Requests manifests from one upstream. The reactor has a thread pool."""

    _api: RegistryAPI
    _reactor: Any

    async def resolve(
        self, repository: RepositoryName, reference: Reference, deadline: Deadline
    ) -> Descriptor | None:
        """Resolve a reference by HEAD; None if the headers are incomplete or contradict it."""
        response = await self._api.send(self._request("HEAD", repository, reference), deadline)
        if response.status in {405, 501}:
            return None
        self._check(response)
        digest = _digest_header(response)
        media_type = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
        size = response.length
        if digest is None or size is None or not 0 < size <= MAX_MANIFEST_BYTES or media_type not in _TYPES:
            return None
        if isinstance(reference, Digest) and digest != reference:
            return None
        return Descriptor(media_type, digest, size)

    async def fetch(self, repository: RepositoryName, reference: Reference, deadline: Deadline) -> Manifest:
        """Return the manifest, verified."""
        response = await self._api.send(self._request("GET", repository, reference), deadline)
        if response.status != 200:
            await self._api.transport.discard(response, deadline)
        self._check(response)
        body = await self._api.transport.bodies.read_all(response.raw, MAX_MANIFEST_BYTES, deadline)
        in_header = _digest_header(response)
        digest = reference if isinstance(reference, Digest) else in_header
        parse = partial(_parse, body, response.header("Content-Type"), digest, in_header)
        if len(body) < _THREAD_BYTES:
            return parse()
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), parse)

    def _request(self, method: str, repository: RepositoryName, reference: Reference) -> UpstreamRequest:
        url = f"{self._api.home}/v2/{repository}/manifests/{reference}"
        return UpstreamRequest(
            method,
            url,
            kind="manifest",
            repository=repository,
            headers_for=lambda _: Headers({"Accept": [ACCEPT]}),
        )

    @staticmethod
    def _check(response: UpstreamResponse) -> None:
        """Raise the error for a response other than 200.

        The target of a redirect counts as the registry here: registry.k8s.io redirects everything.
        """
        status = response.status
        if status in {404, 410} and response.is_html:
            raise UpstreamRefused(
                f"the upstream responded with {status} for a manifest", upstream_status=status
            )
        if status != 200:
            raise refusal(status, "a manifest", ManifestUnknown("the upstream has no such manifest"))


def _parse(
    body: bytes, content_type: str | None, digest: Digest | None, in_header: Digest | None
) -> Manifest:
    """Parse a manifest and verify it against the digest requested and the one in the response's header."""
    try:
        if in_header is not None and in_header != digest and not in_header.matches(body):
            raise DigestInvalid(f"the manifest does not match its Docker-Content-Digest {in_header}")
        return Manifest.parse(body, content_type, digest)
    except DigestInvalid as error:
        raise UpstreamCorrupt(error.message, upstream_status=200) from None
    except ManifestInvalid as error:
        raise UpstreamRefused(
            f"the upstream sent an invalid manifest: {error.message}", upstream_status=200
        ) from None


def _digest_header(response: UpstreamResponse) -> Digest | None:
    try:
        return Digest.parse(response.header("Docker-Content-Digest") or "")
    except DigestInvalid:
        return None
