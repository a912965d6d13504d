"""What is told of a running download."""

from mirrord.mirrored.blobs import DownloadProgress
from tests.unit.mirrored.cases import CONTENT, UBUNTU, PullBlobs


class ProgressTests(PullBlobs):
    def progress(self, written: int, *, subscribers: int, bytes_per_second: int) -> DownloadProgress:
        return DownloadProgress(
            digest=self.digest,
            source=UBUNTU,
            written=written,
            size=200,
            subscribers=subscribers,
            bytes_per_second=bytes_per_second,
        )

    def test_running(self) -> None:
        """It is told how far a download is, who reads along, and how fast bytes have come on average."""
        self.assertEqual([], self.puller.running)
        first, second = self.open(), self.open()
        self.assertEqual([self.progress(0, subscribers=2, bytes_per_second=0)], self.puller.running)

        self.upstream.bodies[0].send(100)
        self.clock.advance(2)
        first.close()
        first.close()
        self.assertEqual([self.progress(100, subscribers=1, bytes_per_second=50)], self.puller.running)

        second.close()
        self.finish()
        self.assertEqual([], self.puller.running)

    def test_resumed(self) -> None:
        """What an earlier download had left is written, and did not come in this one's time."""
        self.blobs.parked[self.digest] = CONTENT[:120]
        self.open()
        self.upstream.bodies[0].send(20)
        self.clock.advance(2)
        self.assertEqual([self.progress(140, subscribers=1, bytes_per_second=10)], self.puller.running)
