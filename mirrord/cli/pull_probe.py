"""A minimal pull through the mirror, as a client makes it, with every digest verified."""

import json
import platform
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid
from mirrord.oci.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

_ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
_MAX_MANIFEST_BYTES = 4 * 1024 * 1024
_MAX_BLOB_BYTES = 64 * 1024 * 1024
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm"}


class ProbeFailed(Exception):
    """The response was not what a client needs; the message is one line for the operator."""


@attrs.frozen
class PullProbe:
    """Pulls from a repository of one upstream through a mirror."""

    _connection: HTTPConnection
    _repository: str
    _upstream: str

    def pull(self, tag: str) -> int:
        """Pull a manifest of the tag and its smallest blob; return the size of the blob.

        Raises:
            ProbeFailed: A response was an error, or its content did not match its digest.
            OSError, HTTPException: There was no valid HTTP response.
        """
        manifest = self._fetch_manifest(tag)
        if children := manifest.get("manifests"):
            manifest = self._fetch_manifest(str(min(children, key=_is_foreign).get("digest")))
        blobs = [blob for blob in (manifest.get("config"), *manifest.get("layers", [])) if blob]
        if not blobs:
            raise ProbeFailed("the manifest lists no blobs")
        digest = str(min(blobs, key=lambda blob: int(blob.get("size", 0))).get("digest"))
        content, _ = self._fetch(f"blobs/{digest}", _MAX_BLOB_BYTES)
        _verify(content, digest)
        return len(content)

    def _fetch_manifest(self, reference: str) -> dict[str, Any]:
        body, digest = self._fetch(f"manifests/{reference}", _MAX_MANIFEST_BYTES)
        _verify(body, reference if ":" in reference else digest)
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ProbeFailed("the manifest is not a JSON object")
        return document

    def _fetch(self, path: str, max_bytes: int) -> tuple[bytes, str]:
        """Return the body and the Docker-Content-Digest of a response."""
        query = urlencode({"ns": self._upstream})
        self._connection.request("GET", f"/v2/{self._repository}/{path}?{query}", headers={"Accept": _ACCEPT})
        response = self._connection.getresponse()
        body = response.read(max_bytes)
        if response.status != 200:
            raise ProbeFailed(f"{response.status} {_error_message(body)} for {path}")
        return body, response.getheader("Docker-Content-Digest", "")


def _verify(content: bytes, digest: str) -> None:
    try:
        is_match = Digest.parse(digest).matches(content)
    except DigestInvalid:
        raise ProbeFailed(f"invalid digest {digest!r}") from None
    if not is_match:
        raise ProbeFailed(f"the content does not match {digest}")


def _is_foreign(child: Mapping[str, Any]) -> bool:
    """Return whether a manifest of an index is for a platform other than this host's."""
    target = child.get("platform") or {}
    machine = platform.machine()
    return (target.get("os"), target.get("architecture")) != (
        "linux",
        _ARCHITECTURES.get(machine, machine),
    )


def _error_message(body: bytes) -> str:
    try:
        return str(json.loads(body)["errors"][0]["message"])
    except (ValueError, LookupError, TypeError):
        return "(no message)"
