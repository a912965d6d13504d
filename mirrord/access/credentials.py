"""Credentials in an Authorization header (RFC 7617, RFC 6750)."""

import base64

import attrs

MAX_LENGTH = 16 * 1024
"""The longest header, in characters; a token with many scopes is long."""


@attrs.frozen
class Basic:
    """A user name and a password."""

    username: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class Bearer:
    """A bearer token."""

    token: str = attrs.field(repr=False)


Credentials = Basic | Bearer


def read_credentials(header: str) -> Credentials | None:
    """Parse the credentials in an Authorization header; None if the scheme is another one.

    Raises:
        ValueError: They are malformed; the message contains no part of them.
    """
    scheme, _, rest = header.partition(" ")
    rest = rest.strip()
    if len(header) > MAX_LENGTH:
        raise ValueError("too long")
    match scheme.lower():
        case "basic":
            return _decode_basic(rest)
        case "bearer":
            return Bearer(rest)
    return None


def _decode_basic(encoded: str) -> Basic:
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8")
    except ValueError:
        text = ""
    username, colon, password = text.partition(":")
    if not colon:
        raise ValueError("not a Base64-encoded user name and password")
    return Basic(username, password)
