"""Platforms of the images in an image index (image-spec, image-index.md, "platform")."""

import json
import re
from collections.abc import Iterable
from typing import Any, Self

import attrs

from mirrord.oci.errors import ManifestUnknown, NameInvalid
from mirrord.oci.manifests import Descriptor, Manifest

_PART = re.compile(r"[a-z0-9_.]{1,32}", re.ASCII)
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
"""Go's names for the architectures of `uname -m`; all others are equal (containerd, platforms)."""

_VARIANT = re.compile(r"v?([0-9]{1,9})", re.ASCII)
_DEFAULT_VARIANTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
_MACHINES = {"armv5l": "v5", "armv5tel": "v5", "armv6l": "v6", "armv7l": "v7", "armv8l": "v8"}


@attrs.frozen
class Platform:
    """An operating system, an architecture, and for some architectures a variant."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `os/architecture[/variant]`.

        Raises:
            NameInvalid: The text is not a platform.
        """
        parts = text.lower().split("/")
        if not 2 <= len(parts) <= 3 or not all(map(_PART.fullmatch, parts)):
            raise NameInvalid("a platform has the form os/architecture[/variant]", detail=text[:256])
        parts[1] = _ARCHITECTURES.get(parts[1], parts[1])
        return cls(*parts)

    @classmethod
    def of_machine(cls, machine: str) -> Self:
        """Return the platform of a Linux host whose `uname -m` is `machine`."""
        machine = machine.lower()
        if machine in _MACHINES:
            return cls("linux", "arm", _MACHINES[machine])
        return cls("linux", _ARCHITECTURES.get(machine, machine))

    def distance(self, image: "Platform") -> int | None:
        """Return how well an image's platform matches this one: 0 is best, None means that it cannot run.

        A newer variant runs images for older ones.
        """
        if (image.os, image.architecture) != (self.os, self.architecture):
            return None
        newer_by = self._variant_number() - image._variant_number()
        return newer_by if newer_by >= 0 else None

    def _variant_number(self) -> int:
        variant = self.variant or _DEFAULT_VARIANTS.get(self.architecture, "")
        match = _VARIANT.fullmatch(variant)
        return 0 if match is None else int(match[1])

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@attrs.frozen
class PlatformManifest:
    """A manifest in an index, and its platform; None where the index contains none."""

    descriptor: Descriptor
    platform: Platform | None


def platform_manifests(manifest: Manifest) -> tuple[PlatformManifest, ...]:
    """Return the manifests of an image index, in its order; none where the manifest is an image's own."""
    entries = json.loads(manifest.body).get("manifests")
    if not isinstance(entries, list):
        return ()
    descriptors = {str(descriptor.digest): descriptor for descriptor in manifest.references()}
    found = []
    for entry in entries:
        match entry:
            case {"digest": str(digest)} if digest in descriptors:
                found.append(PlatformManifest(descriptors[digest], _read_platform(entry.get("platform"))))
    return tuple(found)


def select_platform(manifests: Iterable[PlatformManifest], platform: Platform) -> PlatformManifest:
    """Return the manifest that matches a platform best, the first of equals.

    Raises:
        ManifestUnknown: No manifest matches.
    """
    best: tuple[int, PlatformManifest] | None = None
    for manifest in manifests:
        distance = None if manifest.platform is None else platform.distance(manifest.platform)
        if distance is not None and (best is None or distance < best[0]):
            best = distance, manifest
    if best is None:
        raise ManifestUnknown(f"the index has no image for {platform}")
    return best[1]


def _read_platform(entry: Any) -> Platform | None:
    match entry:
        case {"os": str(system), "architecture": str(architecture)}:
            variant = entry.get("variant")
            return Platform(system, architecture, variant if isinstance(variant, str) else "")
    return None
