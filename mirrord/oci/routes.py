"""Routes: from a request's path and query to one frozen value, or to the spec's error.

A repository's name may itself contain `manifests`, `blobs` or `tags`, so a path is read from
the right: a fixed tail decides the route, and what stands before it is the repository
(reference/protocol.md, section 1.1). A `/prefix` before `/v2/` is kept apart; which upstream
it means is not decided here (routing.py).

Only the path is matched, whatever the method: that a mirror takes no PUT is the web's to say.
"""

from urllib.parse import parse_qsl, unquote_to_bytes

import attrs

from mirrord.oci.digest import ALGORITHMS, Digest
from mirrord.oci.errors import (
    DigestInvalid,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    QueryTooLong,
)
from mirrord.oci.names import Reference, RepositoryName, Tag, parse_reference

MAX_PAGE = 10_000
"""The largest page of tags or repositories that one request may ask for."""

MAX_PARAMETERS = 64
"""Of a query; a push by digest may give a manifest so many tags (distribution-spec: ten at least)."""

MAX_ARTIFACT_TYPE = 255
"""The longest media type that can be: two names of 127 characters (RFC 6838, section 4.2)."""


@attrs.frozen
class Page:
    """At most `limit` names (None: all) that sort after `last`."""

    limit: int | None = None
    last: str = ""


@attrs.frozen
class Ping:
    """`GET /v2/`: is this a registry?"""


@attrs.frozen
class CatalogRoute:
    """`/v2/_catalog`: the repositories that are held."""

    page: Page


@attrs.frozen
class ManifestRoute:
    """`/v2/<repository>/manifests/<reference>`; a push may give a manifest more `tags`."""

    repository: RepositoryName
    reference: Reference
    tags: tuple[Tag, ...] = ()


@attrs.frozen
class BlobRoute:
    """`/v2/<repository>/blobs/<digest>`."""

    repository: RepositoryName
    digest: Digest


@attrs.frozen
class UploadRoute:
    """`/v2/<repository>/blobs/uploads/[<session>]`: where a blob is pushed, and where that begins.

    `digest` is what the bytes are to be; `mount` is a blob that need not be sent, for `origin` has it
    (None: for somebody may).
    """

    repository: RepositoryName
    session: str | None = None
    digest: Digest | None = None
    mount: Digest | None = None
    origin: RepositoryName | None = None


@attrs.frozen
class TagsRoute:
    """`/v2/<repository>/tags/list`."""

    repository: RepositoryName
    page: Page


@attrs.frozen
class ReferrersRoute:
    """`/v2/<repository>/referrers/<digest>`; of a list in pages, those that come after `last`."""

    repository: RepositoryName
    digest: Digest
    artifact_type: str | None
    last: str = ""


RepositoryRoute = ManifestRoute | BlobRoute | UploadRoute | TagsRoute | ReferrersRoute
"""The routes that name a repository."""

Route = Ping | CatalogRoute | RepositoryRoute


@attrs.frozen
class Target:
    """What a request is aimed at: a route, and what it says about the upstream.

    `leading` is what stood before `/v2/` (`dockerhub` in `/dockerhub/v2/…`); `namespace` is `?ns=`.
    """

    route: Route
    leading: str | None = None
    namespace: str | None = None


def parse(uri: bytes) -> Target:
    """Read a request's target, path and query, as it stood in the request line.

    Raises:
        RegistryError: 400 or 404 with the spec's code; nothing else is ever raised.
    """
    path, _, query = uri.partition(b"?")
    segments = _segments(path)
    parameters = _parameters(query)
    leading, tail = _split_leading(segments)
    return Target(_route(tail, parameters), leading, _only(parameters, "ns"))


def _segments(path: bytes) -> list[str]:
    """The decoded segments of a path; no empty one but the last, none that climbs or hides a slash."""
    if not path.startswith(b"/"):
        raise NameInvalid("the path does not begin with a slash")
    segments = []
    for raw in path[1:].split(b"/"):
        try:
            segment = unquote_to_bytes(raw).decode("ascii")
        except UnicodeDecodeError:
            raise NameInvalid("only ASCII is allowed in a path") from None
        if "/" in segment or segment in {".", ".."} or not segment.isprintable():
            raise NameInvalid("an encoded slash, a dot segment or a control character is in the path")
        segments.append(segment)
    if "" in segments[:-1]:
        raise NameInvalid("an empty segment is in the path")
    return segments


def _parameters(query: bytes) -> dict[str, list[str]]:
    if query.count(b"&") >= MAX_PARAMETERS:
        raise QueryTooLong(f"no more than {MAX_PARAMETERS} parameters are read")
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise NameInvalid("the query cannot be read") from None
    parameters: dict[str, list[str]] = {}
    for key, value in pairs:
        parameters.setdefault(key, []).append(value)
    return parameters


def _only(parameters: dict[str, list[str]], key: str) -> str | None:
    values = parameters.get(key, [])
    if len(values) > 1:
        raise NameInvalid(f"the query says {key} more than once")
    return values[0] if values else None


def _split_leading(segments: list[str]) -> tuple[str | None, list[str]]:
    if segments[0] == "v2":
        return None, segments[1:]
    if len(segments) > 1 and segments[1] == "v2":
        return segments[0], segments[2:]
    raise NameUnknown("the API of a registry begins at /v2/")


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
            return ReferrersRoute(_repository(name), Digest.parse(digest), _artifact_type(parameters), last)
    raise NameUnknown("no such path in the distribution API")


def _repository(name: list[str]) -> RepositoryName:
    return RepositoryName.parse("/".join(name))


def _tags(parameters: dict[str, list[str]]) -> tuple[Tag, ...]:
    """Each tag once, in the order of the query."""
    return tuple(dict.fromkeys(map(Tag.parse, parameters.get("tag", ()))))


def _upload(repository: RepositoryName, session: str | None, parameters: dict[str, list[str]]) -> UploadRoute:
    """The algorithm of the digest to come may be announced; it is refused where it is none of ours."""
    algorithm, origin = _only(parameters, "digest-algorithm"), _only(parameters, "from")
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise DigestInvalid("no such algorithm is known here", detail=algorithm[:64])
    digest, mount = (
        None if text is None else Digest.parse(text)
        for text in (_only(parameters, "digest"), _only(parameters, "mount"))
    )
    return UploadRoute(
        repository, session, digest, mount, None if origin is None else RepositoryName.parse(origin)
    )


def _artifact_type(parameters: dict[str, list[str]]) -> str | None:
    text = _only(parameters, "artifactType")
    if text is not None and len(text) > MAX_ARTIFACT_TYPE:
        raise NameInvalid("no artifact type is that long", detail=text[:64])
    return text


def _page(parameters: dict[str, list[str]]) -> Page:
    text = _only(parameters, "n")
    last = _only(parameters, "last") or ""
    if text is None:
        return Page(None, last)
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise PaginationNumberInvalid("n is a whole number", detail=text[:64])
    return Page(min(int(text), MAX_PAGE), last)
