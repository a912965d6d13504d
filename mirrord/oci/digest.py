"""Digests, which identify content (image-spec, descriptor.md, "Digests")."""

import hashlib
import re
from typing import Protocol, Self

import attrs

from mirrord.oci.errors import DigestInvalid

_GRAMMAR = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)", re.ASCII)
_ENCODED = {"sha256": re.compile(r"[a-f0-9]{64}"), "sha512": re.compile(r"[a-f0-9]{128}")}

ALGORITHMS = frozenset(_ENCODED)
"""The supported algorithms."""


class Hasher(Protocol):
    """A hash object of `hashlib`."""

    def update(self, data: bytes, /) -> None:
        """Add bytes; releases the GIL from 2 KiB on."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes added so far, in lowercase hexadecimal."""
        ...


@attrs.frozen(order=True, cache_hash=True)
class Digest:
    """A valid digest: a supported algorithm and the number of digits that it requires."""

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `algorithm:encoded`.

        Raises:
            DigestInvalid: The text is not a digest, or its algorithm is not supported.
        """
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise DigestInvalid("a digest has the form algorithm:encoded", detail=text[:256])
        algorithm, encoded = match.groups()
        grammar = _ENCODED.get(algorithm)
        if grammar is None:
            raise DigestInvalid("only sha256 and sha512 digests are supported", detail=text[:256])
        if grammar.fullmatch(encoded) is None:
            raise DigestInvalid(f"wrong number of digits for {algorithm}", detail=text[:256])
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """Return the digest of `content`."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    def hasher(self) -> Hasher:
        """Return a new hasher of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    @staticmethod
    def hasher_of(algorithm: str) -> Hasher:
        """Return a new hasher of one of ALGORITHMS."""
        return hashlib.new(algorithm)

    def matches(self, content: bytes) -> bool:
        """Return whether this is the digest of `content`."""
        return hashlib.new(self.algorithm, content).hexdigest() == self.encoded

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"
