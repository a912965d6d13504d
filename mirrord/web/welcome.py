"""Welcome: what a browser sees at the mirror's address, which is how to set up the hosts that pull.

The recipes are those of docs/clients.md, with the address that the browser itself has used: where
the browser came from is where a client can come from. The page runs nothing and loads nothing, and
says so to the browser (CSP), so that a host name that got past `_ADDRESS` could still do nothing.
"""

import base64
import hashlib
import html
import re

import attrs

from mirrord.listen.answer import Answer, Header

_ADDRESS = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

_PLACEHOLDER = "mirror.lan:5000"
"""Stands for an address that a browser does not tell, or that no client could be told."""

_NEVER = re.compile(r"q=0(?:\.0*)?")

_STYLE = """
:root{color-scheme:light dark;font:16px/1.6 system-ui,sans-serif}
body{max-width:44rem;margin:3rem auto;padding:0 1rem}
h2{font-size:1.1rem;margin:2rem 0 0}
p{margin:.25rem 0}
pre{padding:.75rem 1rem;border-radius:.5rem;background:#8882;overflow-x:auto}
code,pre{font:.9rem/1.5 ui-monospace,monospace}
"""


@attrs.frozen
class Recipe:
    """What to write for one client: into which file, and what makes the client read it."""

    client: str
    file: str
    text: str
    then: str


def recipes(address: str, *, is_secure: bool) -> tuple[Recipe, ...]:
    """The recipes of docs/clients.md for the mirror at `address`, a host with a port if it has one."""
    url = f"{'https' if is_secure else 'http'}://{address}"
    insecure = "" if is_secure else "\ninsecure = true"
    return (
        Recipe(
            "docker",
            "/etc/docker/daemon.json",
            f'{{ "registry-mirrors": ["{url}"] }}',
            "Then systemctl reload docker. Images of Docker Hub only.",
        ),
        Recipe(
            "containerd",
            "/etc/containerd/certs.d/docker.io/hosts.toml",
            'server = "https://registry-1.docker.io"\n\n'
            f'[host."{url}"]\n  capabilities = ["pull", "resolve"]',
            "Read at every pull. A folder for each registry; without the server line, _default is for all.",
        ),
        Recipe(
            "podman, CRI-O, skopeo, buildah",
            "/etc/containers/registries.conf.d/50-mirrord.conf",
            '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n\n[[registry.mirror]]\n'
            f'location = "{address}/dockerhub"{insecure}',
            "Read at every pull; CRI-O after systemctl reload crio.",
        ),
        Recipe(
            "k3s",
            "/etc/rancher/k3s/registries.yaml",
            f'mirrors:\n  docker.io:\n    endpoint: ["{url}"]\n  "*":\n    endpoint: ["{url}"]',
            "Then systemctl restart k3s.",
        ),
    )


def is_wanted(accept: bytes | None) -> bool:
    """Whether this Accept header names HTML, as a browser's does and that of a registry's client does not."""
    for each in (accept or b"").decode("latin-1").lower().split(","):
        media_type, *parameters = [part.strip() for part in each.split(";")]
        if media_type == "text/html" and not any(map(_NEVER.fullmatch, parameters)):
            return True
    return False


def welcome(host: bytes, *, is_secure: bool) -> Answer:
    """The page for a browser that found the mirror at `host`, as it stood in its request."""
    address = host.decode("latin-1")
    if _ADDRESS.fullmatch(address) is None:
        address = _PLACEHOLDER
    body = _page(address, recipes(address, is_secure=is_secure)).encode("utf-8")
    return Answer.whole(200, body, *_HEADERS)


def _page(address: str, shown: tuple[Recipe, ...]) -> str:
    name = html.escape(address)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>mirrord at {name}</title>\n<style>{_STYLE}</style>\n"
        "<h1>mirrord</h1>\n<p>This is a container registry mirror. Write one of these on the hosts that\n"
        f"pull, and they pull through <code>{name}</code>.</p>\n"
        + "".join(map(_section, shown))
        + "</html>\n"
    )


def _section(recipe: Recipe) -> str:
    client, file, text, then = map(html.escape, attrs.astuple(recipe))
    return f"<h2>{client}</h2>\n<p><code>{file}</code></p>\n<pre>{text}</pre>\n<p>{then}</p>\n"


_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest())

_HEADERS: tuple[Header, ...] = (
    (b"Content-Type", b"text/html; charset=utf-8"),
    (
        b"Content-Security-Policy",
        b"default-src 'none'; style-src 'sha256-%b'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'" % _STYLE_HASH,
    ),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cache-Control", b"no-store"),
    (b"Vary", b"Accept"),
)
