"""What is told of a running download."""

from mirrord.mirrored.blobs import DownloadProgress
from tests.unit.mirrored.cases import CONTENT, UBUNTU, PullBlobs


class ProgressTests(PullBlobs):
    def test_running(self) -> None:
        """It is told how far a download is, who reads along, and how fast bytes have come on average."""
        self.assertEqual([], self.puller.running)
        first, second = self.open(), self.open()
        self.assertEqual([DownloadProgress(self.digest, UBUNTU, 0, 200, 2, 0)], self.puller.running)

        self.upstream.bodies[0].sends(100)
        self.clock.advance(2)
        first.close()
        first.close()
        self.assertEqual([DownloadProgress(self.digest, UBUNTU, 100, 200, 1, 50)], self.puller.running)

        second.close()
        self.finish()
        self.assertEqual([], self.puller.running)

    def test_resumed(self) -> None:
        """What an earlier download had left is written, and did not come in this one's time."""
        self.blobs.parked[self.digest] = CONTENT[:120]
        self.open()
        self.upstream.bodies[0].sends(20)
        self.clock.advance(2)
        self.assertEqual([DownloadProgress(self.digest, UBUNTU, 140, 200, 1, 10)], self.puller.running)
