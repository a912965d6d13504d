"""Platforms: for which machines an image index offers images (image-spec, image-index.md, "platform")."""

import json
import re
from collections.abc import Iterable
from typing import Any, Self

import attrs

from mirrord.oci.errors import ManifestUnknown, NameInvalid
from mirrord.oci.manifests import Descriptor, Manifest

_WORD = re.compile(r"[a-z0-9_.]{1,32}", re.ASCII)
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "loongarch64": "loong64",
    "mips64el": "mips64le",
}
"""What machines call themselves, in Go's words; the others are the same in both (containerd, platforms)."""

_DEFAULT_VARIANTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
_MACHINES = {"armv5l": "v5", "armv5tel": "v5", "armv6l": "v6", "armv7l": "v7", "armv8l": "v8"}


@attrs.frozen
class Platform:
    """An operating system, an architecture, and where it matters a variant of that."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os/architecture[/variant]`.

        Raises:
            NameInvalid: The text is not that.
        """
        words = text.lower().split("/")
        if not 2 <= len(words) <= 3 or not all(map(_WORD.fullmatch, words)):
            raise NameInvalid("a platform reads os/architecture[/variant]", detail=text[:256])
        words[1] = _ARCHITECTURES.get(words[1], words[1])
        return cls(*words)

    @classmethod
    def of_machine(cls, machine: str) -> Self:
        """The platform of a Linux host whose `uname -m` is `machine`."""
        machine = machine.lower()
        if machine in _MACHINES:
            return cls("linux", "arm", _MACHINES[machine])
        return cls("linux", _ARCHITECTURES.get(machine, machine))

    def suits(self, offered: "Platform") -> int | None:
        """How well what is offered for another platform runs on this one: lower is better, None not at all.

        A newer variant runs what was built for an older one.
        """
        if (offered.os, offered.architecture) != (self.os, self.architecture):
            return None
        newer_by = self._number() - offered._number()
        return newer_by if newer_by >= 0 else None

    def _number(self) -> int:
        variant = self.variant or _DEFAULT_VARIANTS.get(self.architecture, "")
        digits = variant.removeprefix("v")
        return int(digits) if digits.isdecimal() else 0

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@attrs.frozen
class Offer:
    """A manifest that an index names, and for which platform; None where the index does not say."""

    descriptor: Descriptor
    platform: Platform | None


def offers(manifest: Manifest) -> tuple[Offer, ...]:
    """What an image index offers, in its order; nothing where the manifest is an image's own."""
    entries = json.loads(manifest.body).get("manifests")
    if not isinstance(entries, list):
        return ()
    named = {str(descriptor.digest): descriptor for descriptor in manifest.references()}
    offered = []
    for entry in entries:
        match entry:
            case {"digest": str(digest)} if digest in named:
                offered.append(Offer(named[digest], _platform(entry.get("platform"))))
    return tuple(offered)


def choose(offers: Iterable[Offer], wanted: Platform) -> Offer:
    """The offer that suits a platform best, the first of equals.

    Raises:
        ManifestUnknown: None does.
    """
    best: tuple[int, Offer] | None = None
    for offer in offers:
        rank = None if offer.platform is None else wanted.suits(offer.platform)
        if rank is not None and (best is None or rank < best[0]):
            best = rank, offer
    if best is None:
        raise ManifestUnknown(f"the image is not offered for {wanted}")
    return best[1]


def _platform(entry: Any) -> Platform | None:
    match entry:
        case {"os": str(system), "architecture": str(architecture)}:
            variant = entry.get("variant")
            return Platform(system, architecture, variant if isinstance(variant, str) else "")
    return None
