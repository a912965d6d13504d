"""Credentials in an Authorization header (RFC 7617, RFC 6750)."""

import base64
from typing import Self

import attrs

MAX_LENGTH = 16 * 1024
"""The longest header, in characters; a token with many scopes is long."""


@attrs.frozen
class Basic:
    """A user name and a password."""

    username: str
    password: str = attrs.field(repr=False)

    @classmethod
    def decode(cls, encoded: str) -> Self:
        """Decode the credentials that follow `Basic`.

        Raises:
            ValueError: They are not a user name and a password.
        """
        text = base64.b64decode(encoded, validate=True).decode("utf-8")
        username, colon, password = text.partition(":")
        if not colon:
            raise ValueError("no colon between user name and password")
        return cls(username, password)


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
            try:
                return Basic.decode(rest)
            except ValueError:
                raise ValueError("not a Base64-encoded user name and password") from None
        case "bearer":
            return Bearer(rest)
    return None
