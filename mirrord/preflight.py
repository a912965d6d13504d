"""Preflight: what can only be known by opening it, asked before anything is started.

`parse_config` judges words; this opens the files that they name, shows the endpoints to Twisted, and
reads what the environment says of proxies.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from twisted.internet.endpoints import serverFromString

from mirrord.config import Config, ListenConfig
from mirrord.defaults import path_of, proxy_variables
from mirrord.words import split_proxy

_INTERNAL = re.compile(r"^_?\w+\(\) ")


def check_files(config: Config, environment: Mapping[str, str]) -> list[str]:
    """What is wrong with the files and endpoints that a configuration names, a line each.

    And with the proxies of the environment, where an upstream leaves it to them.
    """
    return list(_lines(config, environment))


def _lines(config: Config, environment: Mapping[str, str]) -> Iterator[str]:
    for index, listener in enumerate(config.listen):
        path = f"listen[{index}]"
        yield from _attempt(f"{path}.endpoint", partial(_parse_endpoint, listener.endpoint))
        yield from _check_certificate(path, listener)
    yield from _attempt("admin.endpoint", partial(_parse_endpoint, config.admin.endpoint))
    for upstream in config.upstream:
        if upstream.ca is not None:
            yield from _attempt(f"{path_of(upstream.name)}.ca", partial(_read_certificates, upstream.ca))
    if any(upstream.proxy is None for upstream in config.upstream):
        for name, url in proxy_variables(environment).values():
            yield from _attempt(name, partial(split_proxy, url))


def _attempt(path: str, attempt: Callable[[], object]) -> Iterator[str]:
    try:
        attempt()
    except OSError as error:
        yield f"{path}: cannot be opened: {error.strerror}"
    except (TypeError, ValueError) as error:
        yield f"{path}: {_INTERNAL.sub('', str(error))}"


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
    wrong = list(_attempt(f"{path}.certificate", partial(_read_certificates, listener.certificate)))
    yield from wrong
    own = None if wrong else _read_certificates(listener.certificate)[0]
    yield from _attempt(f"{path}.key", partial(_read_key, listener.key, own))


def _read_certificates(file: Path) -> list[Certificate]:
    content = file.read_bytes()
    try:
        return load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError("no certificate in PEM") from None


def _read_key(file: Path, certificate: Certificate | None) -> None:
    content = file.read_bytes()
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("no private key in PEM, or an encrypted one") from None
    if certificate is not None and certificate.public_key() != key.public_key():
        raise ValueError("not the key of the certificate")
