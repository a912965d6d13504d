"""Credentials: what a client says of itself in its Authorization header (RFC 7617, RFC 6750)."""

import base64
from typing import Self

import attrs

MAX_LENGTH = 16 * 1024
"""Of a header; tokens with many scopes are long."""


@attrs.frozen
class Basic:
    """A user's name and password."""

    username: str
    password: str = attrs.field(repr=False)

    @classmethod
    def decode(cls, encoded: str) -> Self:
        """Read what follows `Basic`.

        Raises:
            ValueError: It is not a name and a password.
        """
        text = base64.b64decode(encoded, validate=True).decode("utf-8")
        username, colon, password = text.partition(":")
        if not colon:
            raise ValueError("no colon between name and password")
        return cls(username, password)


@attrs.frozen
class Bearer:
    """A token."""

    token: str = attrs.field(repr=False)


Credentials = Basic | Bearer


def read_credentials(header: str) -> Credentials | None:
    """The credentials in an Authorization header; None if they are of another kind.

    Raises:
        ValueError: They cannot be read; the message holds nothing of them.
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
                raise ValueError("not a name and a password in Base64") from None
        case "bearer":
            return Bearer(rest)
    return None
