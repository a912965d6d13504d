"""The targets: each takes any bytes, and raises where mirrord breaks a promise about them.

An error that the parser's docstring names is a result. Any other exception is a failure.
"""

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from mirrord.access.credentials import read_credentials
from mirrord.access.scopes import MAX_SCOPES, read_scopes
from mirrord.api.ranges import select
from mirrord.config.config import Config, ConfigError, parse_config, render
from mirrord.config.htpasswd import read_users
from mirrord.hosted.pushed_manifest import PushedManifest
from mirrord.http.proxy_protocol import InvalidProxyHeader, client_address, header_size
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError, UpstreamRefused
from mirrord.oci.manifests import MAX_REFERENCES, Manifest
from mirrord.oci.references import ImageReference
from mirrord.oci.routes import ChunkRange, parse
from mirrord.store.journal import RecordFile
from mirrord.upstream.challenge import Challenge, choose
from mirrord.upstream.lists import next_page
from mirrord.upstream.origin import WebOrigin

Target = Callable[[bytes], None]

_PAGE = "https://registry.example/v2/app/tags/list?n=1000"
_SIZES = (0, 1, 100, 10**12)


def route(content: bytes) -> None:
    """A request line's target is a route, or an error of the specification for the client."""
    try:
        target = parse(content)
    except RegistryError as error:
        assert error.status in {400, 404, 414}, error
        return
    hash(target)


def content_range(content: bytes) -> None:
    """A Content-Range of an upload has at least one byte, or is rejected."""
    with contextlib.suppress(RegistryError):
        chunk = ChunkRange.parse(content.decode("latin-1"))
        assert 0 <= chunk.first < chunk.stop


def ranges(content: bytes) -> None:
    """Each range of a blob has bytes and is inside it, and all together send it no more than twice."""
    for size in _SIZES:
        selected = select(content.decode("latin-1"), size) or ()
        assert all(0 <= each.first < each.stop <= size for each in selected)
        assert sum(map(len, selected)) <= 2 * size


def challenge(content: bytes) -> None:
    """A WWW-Authenticate header has challenges with a scheme in lowercase, or none."""
    challenges = Challenge.parse_all(content.decode("latin-1").split("\n"))
    assert all(each.scheme and each.scheme == each.scheme.lower() for each in challenges)
    choose(challenges)


def link(content: bytes) -> None:
    """The next page of a list is at the origin of the page before."""
    with contextlib.suppress(UpstreamRefused):
        url = next_page(_PAGE, content.decode("latin-1").split("\n"))
        assert url is None or WebOrigin.of(url) == WebOrigin.of(_PAGE), url


def manifest(content: bytes) -> None:
    """A manifest of an upstream, or one that is pushed, has valid references, or is rejected."""
    media_type, _, body = content.rpartition(b"\n\n")
    declared = media_type.decode("latin-1") or None
    with contextlib.suppress(RegistryError):
        mirrored = Manifest.parse(body, declared)
        assert len(mirrored.references()) <= MAX_REFERENCES
        assert mirrored.descriptor.media_type.isascii()
    with contextlib.suppress(RegistryError):
        pushed = PushedManifest.parse(body, declared, Digest.of(body))
        assert pushed.manifest.media_type.startswith("application/")
        assert {*pushed.blobs, *pushed.children} <= {*pushed.manifest.references()}


def config(content: bytes) -> None:
    """A configuration is valid, and is the same when it is printed and read back; or each error is a line."""
    try:
        parsed = _parse_config(content.decode("utf-8", "replace"))
    except ConfigError as error:
        assert error.lines
        assert all(line.isprintable() for line in error.lines), error.lines
        return
    assert _parse_config(render(parsed)) == parsed


def _parse_config(text: str) -> Config:
    return parse_config(text, environment={"HOME": "/root"}, reads_passwords=False)


def journal(content: bytes) -> None:
    """A journal file is whole records and the offset after them; their facts are known, or rejected."""
    file = RecordFile.parse(content)
    assert 0 <= file.end <= len(content)
    assert file.damage is None or file.damage < file.end
    for record in file.records:
        with contextlib.suppress(ValueError):
            assert len(record.facts) >= 0


def htpasswd(content: bytes) -> None:
    """A file of users has a bcrypt hash for each of them, or is rejected."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(ValueError):
            users = read_users(Path(file.name))
            assert all(name and hashed.startswith(b"$2") for name, hashed in users.items())


def proxy_header(content: bytes) -> None:
    """The beginning of a connection is a PROXY header, or is rejected; its size grows with no byte more."""
    with contextlib.suppress(InvalidProxyHeader):
        size = header_size(content)
        if size is not None:
            assert size == header_size(content[:size])
            client_address(content[:size])


def authorization(content: bytes) -> None:
    """An Authorization header has credentials or none, or is rejected without a word of it."""
    text = content.decode("latin-1")
    try:
        read_credentials(text)
    except ValueError as error:
        assert str(error) in {"too long", "not a Base64-encoded user name and password"}, error


def scope(content: bytes) -> None:
    """The scopes of a token request are few, and are written as they are read."""
    scopes = read_scopes(content.decode("latin-1").split("\n"))
    assert len(scopes) <= MAX_SCOPES
    assert read_scopes(map(str, scopes)) == scopes


def image_reference(content: bytes) -> None:
    """A reference on the command line is an image, and the same when it is printed and read back."""
    try:
        reference = ImageReference.parse(content.decode("latin-1"))
    except RegistryError:
        return
    assert ImageReference.parse(str(reference)) == reference, str(reference)


TARGETS: Mapping[str, Target] = {
    target.__name__: target
    for target in (
        authorization,
        challenge,
        config,
        content_range,
        htpasswd,
        journal,
        image_reference,
        link,
        manifest,
        proxy_header,
        ranges,
        route,
        scope,
    )
}
