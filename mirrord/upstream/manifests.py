"""Manifests: what a registry's answers about them say, and how much of that is believed."""

from functools import partial
from typing import Any

import attrs
from twisted.internet.threads import deferToThreadPool
from twisted.web.http_headers import Headers

from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    Denied,
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
from mirrord.upstream.api import RegistryAPI, UpstreamRequest
from mirrord.upstream.deadline import Deadline
from mirrord.upstream.transport import UpstreamResponse

_TYPES = frozenset({OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST})

ACCEPT = f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}, */*;q=0.1"
"""The whole list, whatever the client asked for: quay and MCR send schema 1 otherwise."""

_THREAD_BYTES = 64 * 1024
"""From here on hashing is no work for the reactor."""


@attrs.frozen
class ManifestRequests:
    """Asks for manifests. The reactor has a thread pool."""

    _api: RegistryAPI
    _reactor: Any

    async def resolve(
        self, repository: RepositoryName, reference: Reference, deadline: Deadline
    ) -> Descriptor | None:
        """What HEAD says that `reference` names; None where it leaves a part of that out."""
        answer = await self._api.ask(self._request("HEAD", repository, reference), deadline)
        if answer.status in {405, 501}:
            return None
        self._check(answer)
        digest = _digest_header(answer)
        media_type = (answer.header("Content-Type") or "").partition(";")[0].strip().lower()
        size = answer.length
        if digest is None or size is None or not 0 < size <= MAX_MANIFEST_BYTES or media_type not in _TYPES:
            return None
        if isinstance(reference, Digest) and digest != reference:
            return None
        return Descriptor(media_type, digest, size)

    async def fetch(self, repository: RepositoryName, reference: Reference, deadline: Deadline) -> Manifest:
        """The manifest, verified."""
        answer = await self._api.ask(self._request("GET", repository, reference), deadline)
        if answer.status != 200:
            await self._api.discard(answer, deadline)
        self._check(answer)
        body = await self._api.wire.bodies.read_all(answer.response, MAX_MANIFEST_BYTES, deadline)
        told = _digest_header(answer)
        digest = reference if isinstance(reference, Digest) else told
        parse = partial(_parse, body, answer.header("Content-Type"), digest, told)
        if len(body) < _THREAD_BYTES:
            return parse()
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), parse)

    def _request(self, method: str, repository: RepositoryName, reference: Reference) -> UpstreamRequest:
        url = f"{self._api.home}/v2/{repository}/manifests/{reference}"
        return UpstreamRequest(method, url, "manifest", repository, lambda _: Headers({"Accept": [ACCEPT]}))

    def _check(self, answer: UpstreamResponse) -> None:
        """Raise what an answer other than 200 means.

        A redirect's target speaks for the registry here: registry.k8s.io answers nothing itself.
        """
        status = answer.status
        if status in {404, 410} and not answer.is_html:
            raise ManifestUnknown("the upstream has no such manifest")
        if status in {401, 403}:
            raise Denied("the upstream does not let us read this")
        if status != 200:
            raise UpstreamRefused(f"the upstream answered {status} for a manifest", upstream_status=status)


def _parse(body: bytes, content_type: str | None, digest: Digest | None, told: Digest | None) -> Manifest:
    """A manifest that is what both the question and the answer's own header call it."""
    try:
        if told is not None and told != digest and not told.matches(body):
            raise DigestInvalid(f"the manifest's bytes are not {told}, as its header says")
        return Manifest.parse(body, content_type, digest)
    except DigestInvalid as error:
        raise UpstreamCorrupt(error.message, upstream_status=200) from None
    except ManifestInvalid as error:
        raise UpstreamRefused(
            f"the upstream sent no manifest: {error.message}", upstream_status=200
        ) from None


def _digest_header(answer: UpstreamResponse) -> Digest | None:
    try:
        return Digest.parse(answer.header("Docker-Content-Digest") or "")
    except DigestInvalid:
        return None
