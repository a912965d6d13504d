"""Preflight: what can only be known by opening it, asked before anything is started.

`parse_config` judges words; this opens the files that they name and shows the endpoints to Twisted.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from OpenSSL import SSL
from twisted.internet.endpoints import serverFromString

from mirrord.config import Config, ListenConfig
from mirrord.defaults import path_of

_INTERNAL = re.compile(r"^_?\w+\(\) ")


def check_files(config: Config) -> list[str]:
    """What is wrong with the files and endpoints that a configuration names, a line each."""
    return list(_lines(config))


def _lines(config: Config) -> Iterator[str]:
    for index, listener in enumerate(config.listen):
        path = f"listen[{index}]"
        yield from _attempt(f"{path}.endpoint", partial(_parse_endpoint, listener.endpoint))
        yield from _check_certificate(path, listener)
    yield from _attempt("admin.endpoint", partial(_parse_endpoint, config.admin.endpoint))
    for upstream in config.upstream:
        if upstream.ca is not None:
            yield from _attempt(f"{path_of(upstream.name)}.ca", partial(_load_ca, upstream.ca))


def _attempt(path: str, attempt: Callable[[], None]) -> Iterator[str]:
    try:
        attempt()
    except OSError as error:
        yield f"{path}: cannot be opened: {error.strerror}"
    except (TypeError, ValueError) as error:
        yield f"{path}: {_INTERNAL.sub('', str(error))}"
    except SSL.Error:
        yield f"{path}: not in PEM, or not what belongs here"


def _parse_endpoint(description: str) -> None:
    try:
        # No endpoint touches its reactor before it listens.
        serverFromString(object(), description)
    except LookupError:
        if not description.startswith("systemd:"):
            raise ValueError("not an endpoint") from None
        # The socket is handed to the service; whoever checks its file has none.


def _check_certificate(path: str, listener: ListenConfig) -> Iterator[str]:
    if listener.certificate is None or listener.key is None:
        return
    context = _context()
    wrong = [
        *_attempt(f"{path}.certificate", partial(_load_certificate, context, listener.certificate)),
        *_attempt(f"{path}.key", partial(_load_key, context, listener.key)),
    ]
    yield from wrong or _attempt(f"{path}.key", partial(_compare, context))


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    # Without a callback OpenSSL asks the terminal for the passphrase of an encrypted key, and waits.
    context.set_passwd_cb(lambda *_: b"")
    return context


def _load_certificate(context: SSL.Context, file: Path) -> None:
    _open(file)
    context.use_certificate_chain_file(str(file))


def _load_key(context: SSL.Context, file: Path) -> None:
    _open(file)
    context.use_privatekey_file(str(file))


def _compare(context: SSL.Context) -> None:
    try:
        context.check_privatekey()
    except SSL.Error:
        raise ValueError("not the key of the certificate") from None


def _load_ca(file: Path) -> None:
    _open(file)
    _context().load_verify_locations(str(file))


def _open(file: Path) -> None:
    """Let the system say why a file cannot be read; OpenSSL does not."""
    with file.open("rb"):
        pass
