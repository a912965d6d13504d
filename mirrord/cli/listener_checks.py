"""The checks of `mirrord doctor` on the listeners, as a client sees them: their ports, and one pull."""

import json
import platform
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlencode

import attrs

from mirrord.cli.admin_client import AdminClient, repository_key
from mirrord.cli.diagnosis import Diagnosis, fail, ok, warn
from mirrord.cli.exit_status import CommandError
from mirrord.cli.formatting import format_size
from mirrord.config.config import ListenConfig
from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, ManifestInvalid
from mirrord.oci.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    read_document,
    references_in,
)

_SECONDS = 30.0
_DEFAULT_IMAGE = ("docker.io", "library/hello-world", "latest")
"""The image that is pulled if none is cached: 13 KB."""

_ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
_MAX_MANIFEST_BYTES = 4 * 1024 * 1024
_MAX_BLOB_BYTES = 64 * 1024 * 1024
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm"}


def check_port(daemon: AdminClient, listener: ListenConfig, *, is_running: bool) -> Diagnosis | None:
    """Check that the mirror responds at a listener; if no daemon is running, that the port is free.

    Returns None if the address of the listener is unknown.
    """
    connection = _connection(daemon, listener)
    if connection is None:
        return None
    endpoint = listener.endpoint
    with closing(connection):
        try:
            connection.connect()
        except OSError as error:
            if not is_running:
                return ok("port", f"{endpoint} is free")
            text = f"{endpoint} does not accept connections: {error.strerror or error}"
            return fail("port", text, "see the daemon's log; restart it if the endpoint was changed")
        if is_running:
            return _check_response(connection, listener)
        text = f"{endpoint} is in use by another process"
        return fail("port", text, "stop that process, or configure another endpoint")


def _check_response(connection: HTTPConnection, listener: ListenConfig) -> Diagnosis:
    endpoint = listener.endpoint
    if not _is_public(listener):
        return ok("port", f"{endpoint} is open; it accepts trusted clients only")
    if _is_registry(connection):
        return ok("port", f"{endpoint} responds as a registry")
    text = f"{endpoint} does not respond as a registry"
    return fail("port", text, "ss -ltnp shows which process listens there")


def check_pull(daemon: AdminClient, commands: AdminClient, listeners: Sequence[ListenConfig]) -> Diagnosis:
    """Pull one manifest and its smallest blob through the mirror, and verify their digests.

    `commands` is where the daemon lists the images that it has.
    """
    connection = next(filter(None, (_connection(daemon, one) for one in listeners if _is_public(one))), None)
    if connection is None:
        text = "skipped: every listener requires the PROXY protocol or a client certificate"
        return warn("pull", text, "test with a pull by a real client")
    upstream, repository, tag = _smallest_image(commands)
    name = f"{upstream}/{repository}:{tag}"
    began = time.monotonic()
    with closing(connection):
        try:
            size = PullProbe(connection, repository, upstream).pull(tag)
        except (OSError, HTTPException, ProbeFailed) as error:
            return fail("pull", f"{name}: {error or type(error).__name__}", f"mirrord why {name}")
    elapsed = time.monotonic() - began
    return ok("pull", f"{name}: {format_size(size)} in {elapsed:.1f} s, digests match")


def _connection(daemon: AdminClient, listener: ListenConfig) -> HTTPConnection | None:
    """Return a connection to a listener, opened on first use; None if its address is unknown."""
    address = daemon.listener_address(listener.endpoint)
    if address is None:
        return None
    if not listener.pairs:
        return address.connection(_SECONDS)
    if address.path:
        return None
    # The certificate is valid for other names than loopback's; `check_certificates` checks it.
    context = ssl._create_unverified_context()  # noqa: S323
    return HTTPSConnection(address.host, address.port, timeout=_SECONDS, context=context)


def _is_public(listener: ListenConfig) -> bool:
    """Return whether a listener accepts any client, without PROXY header or client certificate."""
    return not listener.proxy_protocol and listener.client_ca is None


def _is_registry(connection: HTTPConnection) -> bool:
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().getheader("Docker-Distribution-Api-Version") is not None
    except (OSError, HTTPException):
        return False


def _smallest_image(commands: AdminClient) -> tuple[str, str, str]:
    """Return upstream, repository and tag of the smallest cached image; a hosted one is never downloaded."""
    try:
        cached = [
            (one["bytes"], one["upstream"], one["repository"], tag["tag"])
            for one in commands.stream("GET", "/repositories")
            if not repository_key(one).is_hosted
            for tag in one["tags"]
            if tag["is_held"]
        ]
    except (CommandError, KeyError, TypeError):
        cached = []
    return min(cached)[1:] if cached else _DEFAULT_IMAGE


class ProbeFailed(Exception):
    """The response was not what a client needs; the message is one line for the operator."""


@attrs.frozen
class PullProbe:
    """A minimal pull from a repository of one upstream through a mirror, as a client makes it."""

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
        blobs = references_in(manifest)
        if not blobs:
            raise ProbeFailed("the manifest lists no blobs")
        digest = str(min(blobs, key=lambda blob: blob.size).digest)
        content, _ = self._fetch(f"blobs/{digest}", _MAX_BLOB_BYTES)
        _verify(content, digest)
        return len(content)

    def _fetch_manifest(self, reference: str) -> dict[str, Any]:
        body, digest = self._fetch(f"manifests/{reference}", _MAX_MANIFEST_BYTES)
        _verify(body, reference if ":" in reference else digest)
        try:
            return read_document(body)
        except ManifestInvalid as error:
            raise ProbeFailed(error.message) from None

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
