"""The selection of a platform's image from an index."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameInvalid
from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST, Manifest
from mirrord.oci.platforms import Platform, PlatformManifest, platform_manifests, select_platform


def index(*platforms: Any) -> Manifest:
    """Return an image index with a manifest for each of these platforms."""
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
    def choice(self, platform: str, *platforms: Any) -> int:
        """Return the position of the selected manifest."""
        manifests = platform_manifests(index(*platforms))
        return manifests.index(select_platform(manifests, Platform.parse(platform)))

    def test_long_variant(self) -> None:
        """A variant of an index is a number of at most nine digits, else it counts as none."""
        self.assertEqual(1, self.choice("linux/arm/v7", on("arm", "v" + "9" * 5000), on("arm", "v6")))
        self.assertEqual(1, self.choice("linux/arm/v7", on("arm", "v\u0666"), on("arm", "v6")))

    def test_parse(self) -> None:
        """A platform is parsed and formatted; machine names are translated to Go's."""
        self.assertEqual("linux/arm/v7", str(Platform.parse("linux/arm/v7")))
        self.assertEqual("linux/amd64", str(Platform.parse("Linux/x86_64")))
        self.assertEqual("linux/amd64", str(Platform.of_machine("x86_64")))
        self.assertEqual("linux/arm64", str(Platform.of_machine("aarch64")))
        self.assertEqual("linux/arm/v6", str(Platform.of_machine("armv6l")))
        self.assertEqual("linux/riscv64", str(Platform.of_machine("riscv64")))
        for text in ("linux", "", "linux/", "a/b/c/d", "linux/ar m", "linux/arm64/"):
            self.assertRaises(NameInvalid, Platform.parse, text)

    def test_exact(self) -> None:
        """Operating system and architecture must be equal; a missing variant is the default one."""
        self.assertEqual(1, self.choice("linux/arm64", on("amd64"), on("arm64", "v8"), on("arm64")))
        self.assertEqual(1, self.choice("linux/amd64", on("amd64", system="windows"), on("amd64")))

    def test_older_variant(self) -> None:
        """The newest variant that the machine can run is selected, never a newer one."""
        arms = (on("arm", "v5"), on("arm", "v6"), on("arm", "v7"), on("arm", "v8"))
        self.assertEqual(2, self.choice("linux/arm", *arms))
        self.assertEqual(1, self.choice("linux/arm/v6", *arms))
        self.assertEqual(0, self.choice("linux/arm/v6", on("arm", "v5"), on("arm", "v7")))
        with self.assertRaises(ManifestUnknown):
            self.choice("linux/arm/v5", on("arm", "v7"))

    def test_none(self) -> None:
        """A manifest without a platform, or with a malformed one, is never selected."""
        with self.assertRaises(ManifestUnknown):
            self.choice("linux/amd64", None, "linux/amd64", {"os": "linux"}, {"os": 1, "architecture": 2})

    def test_same_manifest_twice(self) -> None:
        """One manifest can be listed for several platforms."""
        digest = str(Digest.of(b"0"))
        entries = [{"digest": digest, "size": 1, "platform": on("arm", v)} for v in ("v6", "v7")]
        body = json.dumps({"mediaType": OCI_INDEX, "manifests": [*entries, 3, {"digest": []}]})
        manifests = platform_manifests(Manifest.parse(body.encode(), OCI_INDEX))

        self.assertEqual(["linux/arm/v6", "linux/arm/v7"], [str(one.platform) for one in manifests])

    def test_image(self) -> None:
        """The manifest of an image lists no platforms."""
        body = json.dumps({"mediaType": OCI_MANIFEST, "config": {}, "layers": []}).encode()
        none: tuple[PlatformManifest, ...] = ()
        self.assertEqual(none, platform_manifests(Manifest.parse(body, OCI_MANIFEST)))
