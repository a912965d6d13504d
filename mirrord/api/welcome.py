"""The page at `/`, for browsers: how to set up the clients of this mirror.

The recipes contain the address that the browser used, since clients on the same network reach the mirror by
it too. They are for the listener's own upstream; `mirrord client` prints those for the others. The page runs
nothing and loads nothing, and its Content-Security-Policy enforces that: a host name that got past `_ADDRESS`
could still do nothing.
"""

import base64
import hashlib
import html
import re
from typing import Any

from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from mirrord.client_config import RECIPES, ClientFile, ClientRecipe, MirrorAddress, Registry
from mirrord.http.request import READING, MirrorRequest
from mirrord.http.response import Header, Response

_ADDRESS = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

_PLACEHOLDER = "mirror.lan:5000"
"""The address on the page if that of the request is missing or invalid."""

_NOT_ACCEPTED = re.compile(r"q=0(?:\.0*)?")

_STYLE = """
:root{color-scheme:light dark;font:16px/1.6 system-ui,sans-serif}
body{max-width:44rem;margin:3rem auto;padding:0 1rem}
h2{font-size:1.1rem;margin:2rem 0 0}
p{margin:.25rem 0;white-space:pre-wrap}
pre{padding:.75rem 1rem;border-radius:.5rem;background:#8882;overflow-x:auto}
code,pre{font:.9rem/1.5 ui-monospace,monospace}
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest())

_POLICY = (
    b"default-src 'none'; style-src 'sha256-%b'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    % _STYLE_HASH
)

_HEADERS: tuple[Header, ...] = (
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cache-Control", b"no-store"),
    (b"Vary", b"Accept"),
)


class WelcomeResource(Resource):
    """The page at `/`, for browsers; to other clients `/` is a path of the API like any other."""

    isLeaf = True

    def __init__(self, upstream: str, api: IResource) -> None:
        super().__init__()
        self._upstream = upstream
        self._api = api

    def render(self, request: MirrorRequest) -> Any:
        """Respond with the page if HTML is accepted."""
        is_page = request.method in READING and request.path == b"/"
        if not is_page or not accepts_html(request.header(b"Accept")):
            return self._api.render(request)
        request.respond(welcome_page(request.authority, self._upstream, is_secure=request.isSecure()))
        return NOT_DONE_YET


def accepts_html(accept: bytes | None) -> bool:
    """Return whether an Accept header names HTML: those of browsers do, those of registry clients do not."""
    for each in (accept or b"").decode("latin-1").lower().split(","):
        media_type, *parameters = [part.strip() for part in each.split(";")]
        if media_type == "text/html" and not any(map(_NOT_ACCEPTED.fullmatch, parameters)):
            return True
    return False


def welcome_page(host: bytes, upstream: str, *, is_secure: bool) -> Response:
    """Return the page for a browser that reached the mirror at `host`, as named in its request.

    `upstream` is the listener's own, which requests mean that name none.
    """
    address = host.decode("latin-1")
    if _ADDRESS.fullmatch(address) is None:
        address = _PLACEHOLDER
    url = f"{'https' if is_secure else 'http'}://{address}"
    body = _document(MirrorAddress(url=url, registries=(Registry(upstream),), default=upstream))
    content = body.encode("utf-8")
    return Response(200, _HEADERS, len(content), body=content, policy=_POLICY)


def _document(mirror: MirrorAddress) -> str:
    name, upstream = html.escape(mirror.authority), html.escape(mirror.default)
    sections = "".join(_section(client, make(mirror)) for client, make in RECIPES.items())
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>mirrord at {name}</title>\n<style>{_STYLE}</style>\n<h1>mirrord</h1>\n"
        "<p>This is a container registry mirror. Apply one of these recipes on a host, and it pulls from "
        f"<code>{upstream}</code> through <code>{name}</code>. "
        "For other registries, run <code>mirrord client</code>.</p>\n"
        f"{sections}</html>\n"
    )


def _section(client: str, recipe: ClientRecipe) -> str:
    files = "".join(map(_file, recipe.files))
    return f"<h2>{html.escape(client)}</h2>\n{files}<p>{html.escape(recipe.instructions)}</p>\n"


def _file(file: ClientFile) -> str:
    return f"<p><code>{html.escape(file.path)}</code></p>\n<pre>{html.escape(file.text)}</pre>\n"
