"""Descriptions of Twisted server endpoints: `tcp:5000:interface=127.0.0.1`, `unix:/run/mirrord:mode=660`."""

import re
from collections.abc import Mapping
from typing import Self

import attrs

_SEPARATOR = re.compile(r"(?<!\\):")
_ESCAPE = re.compile(r"\\(.)")


@attrs.frozen
class EndpointDescription:
    """A description split into its kind and its arguments, unescaped. Nothing is validated."""

    kind: str
    positional: tuple[str, ...] = ()
    named: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split a description as Twisted does: at colons without a backslash."""
        kind, *arguments = _SEPARATOR.split(text)
        unescaped = [_ESCAPE.sub(r"\1", argument) for argument in arguments]
        return cls(
            kind,
            tuple(argument for argument in unescaped if "=" not in argument),
            dict(argument.split("=", 1) for argument in unescaped if "=" in argument),
        )

    def argument(self, name: str, position: int) -> str:
        """Return an argument given by name or by position; "" if it is given by neither."""
        return self.named.get(name, "".join(self.positional[position : position + 1]))
