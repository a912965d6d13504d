"""Tests of tests/fakes/registry_process.py."""

import zlib
from urllib.request import urlopen

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.faults import Cut, Kind, MissingHeaders, Stall, Status
from tests.fakes.registry_process import RegistryProcess, decode_fault, encode_fault
from tests.fakes.state import RegistryBehavior


class RegistryProcessTests(SynchronousTestCase):
    def test_faults(self) -> None:
        """A fault is the same after encoding and decoding."""
        for fault in (
            Cut(5, abort=True),
            Stall(7, on=None),
            Status(429, on=Kind.TOKEN),
            MissingHeaders(("A",)),
        ):
            self.assertEqual(decode_fault(encode_fault(fault)), fault)

    def test_registry(self) -> None:
        """A registry in another process accepts images and faults, and returns its journal."""
        registry = RegistryProcess.start(RegistryBehavior(auth=None))
        self.addCleanup(registry.stop)
        image = registry.put_image(100_000)
        with urlopen(f"{registry.url}/v2/library/app/blobs/{image.layer.digest}") as response:
            self.assertEqual(zlib.crc32(response.read()), image.layer.crc32)
        self.assertEqual(registry.journal.bytes_sent(image.layer.digest), image.layer.size)
        with urlopen(f"{registry.url}/v2/library/app/manifests/latest") as response:
            self.assertEqual(response.headers["Docker-Content-Digest"], image.manifest.digest)
        registry.down()
        with self.assertRaises(OSError):
            urlopen(f"{registry.url}/v2/")
        registry.up()
        urlopen(f"{registry.url}/v2/").close()
