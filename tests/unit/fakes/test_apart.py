import zlib
from urllib.request import urlopen

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.apart import RegistryApart, decode_fault, encode_fault
from tests.fakes.faults import Cut, Kind, MissingHeaders, Stall, Status
from tests.fakes.scene import Manners


class RegistryApartTests(SynchronousTestCase):
    def test_faults_survive_the_pipe(self) -> None:
        """A fault is the same after it was written as JSON and read again."""
        for fault in (
            Cut(5, abort=True),
            Stall(7, on=None),
            Status(429, on=Kind.TOKEN),
            MissingHeaders(("A",)),
        ):
            self.assertEqual(decode_fault(encode_fault(fault)), fault)

    def test_obeys_and_remembers(self) -> None:
        """A registry in another process takes images and faults, and tells what it saw."""
        registry = RegistryApart.start(Manners(auth=None))
        self.addCleanup(registry.stop)
        image = registry.put_image(100_000)
        with urlopen(f"{registry.url}/v2/library/app/blobs/{image.layer.digest}") as answer:
            self.assertEqual(zlib.crc32(answer.read()), image.layer.crc32)
        self.assertEqual(registry.journal.bytes_sent(image.layer.digest), image.layer.size)
        with urlopen(f"{registry.url}/v2/library/app/manifests/latest") as answer:
            self.assertEqual(answer.headers["Docker-Content-Digest"], image.manifest.digest)
        registry.down()
        with self.assertRaises(OSError):
            urlopen(f"{registry.url}/v2/")
        registry.up()
        urlopen(f"{registry.url}/v2/").close()
