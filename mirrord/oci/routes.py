"""Routes: the path and query of a request, parsed to one frozen value or the specification's error.

A repository's name may itself contain `manifests`, `blobs` or `tags`, so a path is matched from the right: a
fixed tail determines the route, and the rest is the repository (reference/protocol.md, section 1.1). A
`/prefix` before `/v2/` is returned separately; routing.py decides which upstream it means.

Routes do not depend on the method: the API decides which methods a route allows.
"""

import re
from typing import Self
from urllib.parse import parse_qsl, unquote_to_bytes

import attrs

from mirrord.oci.digest import ALGORITHMS, Digest
from mirrord.oci.errors import (
    BlobUploadInvalid,
    DigestInvalid,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    QueryTooLong,
)
from mirrord.oci.names import Reference, RepositoryName, Tag, parse_reference

_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]+|\*))?", re.ASCII)

MAX_PAGE = 10_000
"""The largest page of tags or repositories that a request can have."""

MAX_PARAMETERS = 64
"""The most fields of a query; a push by digest can add this many tags (distribution-spec: at least ten)."""

MAX_ARTIFACT_TYPE = 255
"""The longest possible media type: two names of 127 characters (RFC 6838, section 4.2)."""


@attrs.frozen
class Page:
    """At most `limit` names (None: all), sorted, after `last`."""

    limit: int | None = None
    last: str = ""


@attrs.frozen
class Ping:
    """`/v2/`, with which clients detect a registry."""


@attrs.frozen
class CatalogRoute:
    """`/v2/_catalog`, the list of repositories."""

    page: Page


@attrs.frozen
class ManifestRoute:
    """`/v2/<repository>/manifests/<reference>`; a push can add `tags`."""

    repository: RepositoryName
    reference: Reference
    tags: tuple[Tag, ...] = ()


@attrs.frozen
class BlobRoute:
    """`/v2/<repository>/blobs/<digest>`."""

    repository: RepositoryName
    digest: Digest


@attrs.frozen(kw_only=True)
class UploadRoute:
    """`/v2/<repository>/blobs/uploads/[<session>]`, to which a blob is pushed.

    `digest` is the expected one; `mount` is a blob to mount from the repository `origin` (None: from any)
    instead of an upload.
    """

    repository: RepositoryName
    session: str | None = None
    digest: Digest | None = None
    mount: Digest | None = None
    origin: RepositoryName | None = None


@attrs.frozen
class ChunkRange:
    """The offsets that a chunk of an upload announces: from `first` to before `stop`."""

    first: int
    stop: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the Content-Range of an upload, `0-99`; `bytes 0-99/100` is accepted too.

        Raises:
            BlobUploadInvalid: The text is not one.
        """
        match = _CONTENT_RANGE.fullmatch(text.strip())
        if match is None:
            raise BlobUploadInvalid("the Content-Range of an upload reads 0-99", detail=text[:64])
        first, last = map(int, match.groups())
        if last < first:
            raise BlobUploadInvalid("the Content-Range ends before it begins", detail=text[:64])
        return cls(first, last + 1)


@attrs.frozen
class TagsRoute:
    """`/v2/<repository>/tags/list`."""

    repository: RepositoryName
    page: Page


@attrs.frozen(kw_only=True)
class ReferrersRoute:
    """`/v2/<repository>/referrers/<digest>`; in a paginated list, those after `last`."""

    repository: RepositoryName
    digest: Digest
    artifact_type: str | None
    last: str = ""


RepositoryRoute = ManifestRoute | BlobRoute | UploadRoute | TagsRoute | ReferrersRoute
"""The routes below a repository."""

Route = Ping | CatalogRoute | RepositoryRoute


@attrs.frozen
class Target:
    """The target of a request: a route, and what determines the upstream.

    `prefix` is the component before `/v2/` (`dockerhub` in `/dockerhub/v2/…`); `namespace` is `?ns=`.
    """

    route: Route
    prefix: str | None = None
    namespace: str | None = None


def parse(uri: bytes) -> Target:
    """Parse the path and query of a request line.

    Raises:
        RegistryError: 400, 404 or 414 with the specification's code; no other exception is raised.
    """
    path, _, query = uri.partition(b"?")
    segments = _segments(path)
    parameters = _parameters(query)
    prefix, tail = _split_prefix(segments)
    return Target(_route(tail, parameters), prefix, _only(parameters, "ns"))


def _segments(path: bytes) -> list[str]:
    """Decode the segments of a path; reject empty ones before the last, dots and encoded slashes."""
    if not path.startswith(b"/"):
        raise NameInvalid("the path must begin with a slash")
    segments = []
    for raw in path[1:].split(b"/"):
        try:
            segment = unquote_to_bytes(raw).decode("ascii")
        except UnicodeDecodeError:
            raise NameInvalid("the path must be ASCII") from None
        if "/" in segment or segment in {".", ".."} or not segment.isprintable():
            raise NameInvalid("the path contains an encoded slash, a dot segment or a control character")
        segments.append(segment)
    if "" in segments[:-1]:
        raise NameInvalid("the path contains an empty segment")
    return segments


def _parameters(query: bytes) -> dict[str, list[str]]:
    if query.count(b"&") >= MAX_PARAMETERS:
        raise QueryTooLong(f"the query has more than {MAX_PARAMETERS} parameters")
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise NameInvalid("malformed query") from None
    parameters: dict[str, list[str]] = {}
    for key, value in pairs:
        parameters.setdefault(key, []).append(value)
    return parameters


def _only(parameters: dict[str, list[str]], key: str) -> str | None:
    values = parameters.get(key, [])
    if len(values) > 1:
        raise NameInvalid(f"the query contains {key} more than once")
    return values[0] if values else None


def _split_prefix(segments: list[str]) -> tuple[str | None, list[str]]:
    if segments[0] == "v2":
        return None, segments[1:]
    if len(segments) > 1 and segments[1] == "v2":
        return segments[0], segments[2:]
    raise NameUnknown("the registry API begins at /v2/")


def _route(tail: list[str], parameters: dict[str, list[str]]) -> Route:  # noqa: PLR0911 - a table of routes
    match tail:
        case [] | [""]:
            return Ping()
        case ["_catalog"]:
            return CatalogRoute(_page(parameters))
        case [*name, "manifests", reference] if name and reference:
            return ManifestRoute(_repository(name), parse_reference(reference), _tags(parameters))
        case [*name, "blobs", "uploads", session] if name:
            return _upload(_repository(name), session or None, parameters)
        case [*name, "blobs", "uploads"] if name:
            return _upload(_repository(name), None, parameters)
        case [*name, "blobs", digest] if name and digest:
            return BlobRoute(_repository(name), Digest.parse(digest))
        case [*name, "tags", "list"] if name:
            return TagsRoute(_repository(name), _page(parameters))
        case [*name, "referrers", digest] if name and digest:
            last = _only(parameters, "last") or ""
            return ReferrersRoute(
                repository=_repository(name),
                digest=Digest.parse(digest),
                artifact_type=_artifact_type(parameters),
                last=last,
            )
    raise NameUnknown("no such path in the registry API")


def _repository(name: list[str]) -> RepositoryName:
    return RepositoryName.parse("/".join(name))


def _tags(parameters: dict[str, list[str]]) -> tuple[Tag, ...]:
    """Return each tag once, in the order of the query."""
    return tuple(dict.fromkeys(map(Tag.parse, parameters.get("tag", ()))))


def _upload(repository: RepositoryName, session: str | None, parameters: dict[str, list[str]]) -> UploadRoute:
    """Parse an upload; the algorithm of the later digest may be announced, and is rejected if unsupported."""
    algorithm, origin = _only(parameters, "digest-algorithm"), _only(parameters, "from")
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise DigestInvalid("unsupported digest algorithm", detail=algorithm[:64])
    digest, mount = (
        None if text is None else Digest.parse(text)
        for text in (_only(parameters, "digest"), _only(parameters, "mount"))
    )
    return UploadRoute(
        repository=repository,
        session=session,
        digest=digest,
        mount=mount,
        origin=None if origin is None else RepositoryName.parse(origin),
    )


def _artifact_type(parameters: dict[str, list[str]]) -> str | None:
    text = _only(parameters, "artifactType")
    if text is not None and len(text) > MAX_ARTIFACT_TYPE:
        raise NameInvalid("artifactType is too long", detail=text[:64])
    return text


def _page(parameters: dict[str, list[str]]) -> Page:
    text = _only(parameters, "n")
    last = _only(parameters, "last") or ""
    if text is None:
        return Page(None, last)
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise PaginationNumberInvalid("n must be a whole number", detail=text[:64])
    return Page(min(int(text), MAX_PAGE), last)
