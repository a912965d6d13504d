"""A proof: one pull, as a client with little time makes it, of which every byte is compared."""

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
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm"}


class ProbeFailed(Exception):
    """It did not go as a client's pull has to; the message is one line for the operator."""


@attrs.frozen
class PullProbe:
    """Asks a mirror for an image of one upstream's repository."""

    _connection: HTTPConnection
    _repository: str
    _upstream: str

    def pull(self, tag: str) -> int:
        """Fetch a manifest of the tag and the smallest blob of it; how many bytes that blob has.

        Raises:
            ProbeFailed: Something else came.
            OSError: Nothing came; or HTTPException, where it was no HTTP.
        """
        manifest = self._manifest(tag)
        if children := manifest.get("manifests"):
            manifest = self._manifest(str(min(children, key=_is_foreign).get("digest")))
        parts = [part for part in (manifest.get("config"), *manifest.get("layers", [])) if part]
        if not parts:
            raise ProbeFailed("the manifest names no blob")
        digest = str(min(parts, key=lambda part: int(part.get("size", 0))).get("digest"))
        blob, _ = self._get(f"blobs/{digest}", _MAX_BLOB_BYTES)
        _compare(blob, digest)
        return len(blob)

    def _manifest(self, reference: str) -> dict[str, Any]:
        body, told = self._get(f"manifests/{reference}", _MAX_MANIFEST_BYTES)
        _compare(body, reference if ":" in reference else told)
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ProbeFailed("the manifest is no JSON object")
        return document

    def _get(self, path: str, max_bytes: int) -> tuple[bytes, str]:
        """The body, and the digest that its header tells."""
        query = urlencode({"ns": self._upstream})
        self._connection.request("GET", f"/v2/{self._repository}/{path}?{query}", headers={"Accept": _ACCEPT})
        answer = self._connection.getresponse()
        body = answer.read(max_bytes)
        if answer.status != 200:
            raise ProbeFailed(f"{answer.status} {_message(body)} for {path}")
        return body, answer.getheader("Docker-Content-Digest", "")


def _compare(content: bytes, digest: str) -> None:
    try:
        is_right = Digest.parse(digest).matches(content)
    except DigestInvalid:
        raise ProbeFailed(f"{digest or 'nothing'} is no digest") from None
    if not is_right:
        raise ProbeFailed(f"what came is not {digest}")


def _is_foreign(child: Mapping[str, Any]) -> bool:
    """Whether a manifest of an index is for another platform than this one."""
    named = child.get("platform") or {}
    machine = platform.machine()
    return (named.get("os"), named.get("architecture")) != ("linux", _MACHINES.get(machine, machine))


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["errors"][0]["message"])
    except (ValueError, LookupError, TypeError):
        return "without a reason"
