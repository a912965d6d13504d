"""Digests: the names of content (image-spec, descriptor.md, "Digests")."""

import hashlib
import re
from typing import Protocol, Self

import attrs

from mirrord.oci.errors import DigestInvalid

_GRAMMAR = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)", re.ASCII)
_ENCODED = {"sha256": re.compile(r"[a-f0-9]{64}"), "sha512": re.compile(r"[a-f0-9]{128}")}

ALGORITHMS = frozenset(_ENCODED)
"""The algorithms that we compute."""


class Hasher(Protocol):
    """What `hashlib` gives: bytes go in, a hexadecimal digest comes out."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes; releases the GIL from 2 KiB on."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far, in lowercase hexadecimal."""
        ...


@attrs.frozen(order=True, cache_hash=True)
class Digest:
    """A digest that is valid: a registered algorithm and as many digits as it has."""

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `algorithm:encoded`.

        Raises:
            DigestInvalid: The text is no digest, or of an algorithm that we cannot compute.
        """
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise DigestInvalid("a digest reads algorithm:encoded", detail=text[:256])
        algorithm, encoded = match.groups()
        grammar = _ENCODED.get(algorithm)
        if grammar is None:
            raise DigestInvalid("only sha256 and sha512 digests are known here", detail=text[:256])
        if grammar.fullmatch(encoded) is None:
            raise DigestInvalid(f"not as many hexadecimal digits as {algorithm} has", detail=text[:256])
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """The digest of `content`."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    def hasher(self) -> Hasher:
        """A fresh hasher of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    @staticmethod
    def hasher_of(algorithm: str) -> Hasher:
        """A fresh hasher of one of ALGORITHMS."""
        return hashlib.new(algorithm)

    def matches(self, content: bytes) -> bool:
        """Whether `content` is what this digest names."""
        return hashlib.new(self.algorithm, content).hexdigest() == self.encoded

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"
