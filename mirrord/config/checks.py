"""Checks of the files, endpoints and proxies that a configuration names, before anything is started.

`parse_config` validates the text alone; these checks open the files, let Twisted parse the endpoints and
parse the proxies of the environment.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from twisted.internet.endpoints import serverFromString

from mirrord.config.config import Config, ListenConfig
from mirrord.config.defaults import proxy_variables, upstream_path
from mirrord.config.htpasswd import read_users
from mirrord.config.pem import read_certificates, read_key
from mirrord.config.types import split_proxy_url

_FUNCTION_NAME = re.compile(r"^_?\w+\(\) ")
"""The beginning of the TypeError of a call with unknown arguments."""


def check_files(config: Config, environment: Mapping[str, str], *, is_running: bool = False) -> Iterator[str]:
    """Yield the errors of the files and endpoints that a configuration names, a line each.

    The proxies of the environment are checked where an upstream uses them. The certificates of a running
    daemon are checked by its listeners, which serve the old ones while a renewal is incomplete.
    """
    for index, listener in enumerate(config.listen):
        path = f"listen[{index}]"
        yield from _attempt(f"{path}.endpoint", partial(_parse_endpoint, listener.endpoint))
        if not is_running:
            yield from _check_certificates(path, listener)
    yield from _attempt("admin.endpoint", partial(_parse_endpoint, config.admin.endpoint))
    yield from _attempt("admin.socket", partial(config.admin.command_socket, environment, config.store.path))
    if config.access is not None and config.access.htpasswd is not None:
        yield from _attempt("access.htpasswd", partial(read_users, config.access.htpasswd))
    for upstream in config.upstream:
        if upstream.ca is not None:
            yield from _attempt(f"{upstream_path(upstream.name)}.ca", partial(read_certificates, upstream.ca))
    if any(upstream.proxy is None for upstream in config.upstream):
        for name, url in proxy_variables(environment).values():
            yield from _attempt(name, partial(split_proxy_url, url))


def _attempt(path: str, attempt: Callable[[], object]) -> Iterator[str]:
    try:
        attempt()
    except OSError as error:
        yield f"{path}: cannot be opened: {error.strerror}"
    except (TypeError, ValueError) as error:
        yield f"{path}: {_FUNCTION_NAME.sub('', str(error))}"


def _parse_endpoint(description: str) -> None:
    try:
        # No endpoint touches its reactor before it listens.
        serverFromString(object(), description)
    except LookupError:
        if not description.startswith("systemd:"):
            raise ValueError("must be a Twisted server endpoint") from None
        # systemd passes the socket to the service only; a check of the file has none.


def _check_certificates(path: str, listener: ListenConfig) -> Iterator[str]:
    if listener.certificate is not None and listener.key is not None:
        yield from _check_pair(path, listener.certificate, listener.key)
    for index, pair in enumerate(listener.certificates):
        yield from _check_pair(f"{path}.certificates[{index}]", pair.certificate, pair.key)
    if listener.client_ca is not None:
        yield from _attempt(f"{path}.client_ca", partial(read_certificates, listener.client_ca))


def _check_pair(path: str, certificate: Path, key: Path) -> Iterator[str]:
    errors = list(_attempt(f"{path}.certificate", partial(read_certificates, certificate)))
    yield from errors
    own = None if errors else read_certificates(certificate)[0]
    yield from _attempt(f"{path}.key", partial(read_key, key, own))
