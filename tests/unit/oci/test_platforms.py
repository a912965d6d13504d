"""The image for a machine is found in an index."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameInvalid
from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST, Manifest
from mirrord.oci.platforms import Offer, Platform, choose, offers


def index(*platforms: Any) -> Manifest:
    """An image index that offers something for each of these."""
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(Digest.of(b"%d" % number)),
            "size": 10,
            "platform": platform,
        }
        for number, platform in enumerate(platforms)
    ]
    return Manifest.parse(json.dumps({"mediaType": OCI_INDEX, "manifests": entries}).encode(), OCI_INDEX)


def on(architecture: str, variant: str | None = None, system: str = "linux") -> dict[str, str]:
    more = {} if variant is None else {"variant": variant}
    return {"os": system, "architecture": architecture, **more}


class PlatformTests(SynchronousTestCase):
    def choice(self, wanted: str, *platforms: Any) -> int:
        """Which one of these is chosen."""
        offered = offers(index(*platforms))
        return offered.index(choose(offered, Platform.parse(wanted)))

    def test_words(self) -> None:
        """A platform is read and written; machines have other words for the same."""
        self.assertEqual("linux/arm/v7", str(Platform.parse("linux/arm/v7")))
        self.assertEqual("linux/amd64", str(Platform.parse("Linux/x86_64")))
        self.assertEqual("linux/amd64", str(Platform.of_machine("x86_64")))
        self.assertEqual("linux/arm64", str(Platform.of_machine("aarch64")))
        self.assertEqual("linux/arm/v6", str(Platform.of_machine("armv6l")))
        self.assertEqual("linux/riscv64", str(Platform.of_machine("riscv64")))
        for text in ("linux", "", "linux/", "a/b/c/d", "linux/ar m", "linux/arm64/"):
            self.assertRaises(NameInvalid, Platform.parse, text)

    def test_exact(self) -> None:
        """Operating system and architecture have to agree; a variant that is not said is the usual one."""
        self.assertEqual(1, self.choice("linux/arm64", on("amd64"), on("arm64", "v8"), on("arm64")))
        self.assertEqual(1, self.choice("linux/amd64", on("amd64", system="windows"), on("amd64")))

    def test_older_variant(self) -> None:
        """The newest variant that the machine can run is taken, never one that it cannot."""
        arms = (on("arm", "v5"), on("arm", "v6"), on("arm", "v7"), on("arm", "v8"))
        self.assertEqual(2, self.choice("linux/arm", *arms))
        self.assertEqual(1, self.choice("linux/arm/v6", *arms))
        self.assertEqual(0, self.choice("linux/arm/v6", on("arm", "v5"), on("arm", "v7")))
        with self.assertRaises(ManifestUnknown):
            self.choice("linux/arm/v5", on("arm", "v7"))

    def test_none(self) -> None:
        """An index that says nothing of platforms, or nonsense, offers nothing for one."""
        with self.assertRaises(ManifestUnknown):
            self.choice("linux/amd64", None, "linux/amd64", {"os": "linux"}, {"os": 1, "architecture": 2})

    def test_same_manifest_twice(self) -> None:
        """One manifest may be offered for several platforms."""
        digest = str(Digest.of(b"0"))
        entries = [{"digest": digest, "size": 1, "platform": on("arm", v)} for v in ("v6", "v7")]
        body = json.dumps({"mediaType": OCI_INDEX, "manifests": [*entries, 3, {"digest": []}]})
        offered = offers(Manifest.parse(body.encode(), OCI_INDEX))

        self.assertEqual(["linux/arm/v6", "linux/arm/v7"], [str(offer.platform) for offer in offered])

    def test_image(self) -> None:
        """The manifest of an image offers nothing."""
        body = json.dumps({"mediaType": OCI_MANIFEST, "config": {}, "layers": []}).encode()
        nothing: tuple[Offer, ...] = ()
        self.assertEqual(nothing, offers(Manifest.parse(body, OCI_MANIFEST)))
