import http.client
import os
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import attrs

from tests.fakes.registry_process import Stored
from tests.integration.activated import ActivatedDaemon
from tests.integration.case import MB, MirrorCase
from tests.integration.client import Reading
from tests.integration.daemon import Settings

RESTARTS = int(os.environ.get("MIRRORD_RESTARTS", "10"))
"""The number of restarts."""

_CLIENTS = 8
_BLOBS = 24
_CHUNK = 64 * 1024


@attrs.define(eq=False)
class Tally:
    """The results of all clients."""

    refused: int = 0
    unanswered: int = 0
    refusals: list[int] = attrs.field(factory=list)
    resumed: int = 0
    wrong: int = 0
    pulls: int = 0
    is_aborted: bool = False


class Client:
    """A client that pulls blob after blob at its own pace, and resumes broken pulls, as docker does."""

    def __init__(self, url: str, blobs: Sequence[Stored], tally: Tally, seed: int) -> None:
        self._url = url
        self._blobs = blobs
        self._tally = tally
        self._random = random.Random(seed)

    def pull_until(self, is_over: threading.Event) -> None:
        """Begin pulls until `is_over` is set, and complete all that were begun."""
        while not is_over.is_set():
            self._pull(self._random.choice(self._blobs))

    def _pull(self, blob: Stored) -> None:
        size = crc32 = 0
        while size < blob.size and not self._tally.is_aborted:
            reading = self._open(blob, size)
            if reading is None:
                time.sleep(0.02)
                continue
            if reading.status == 200 and size:
                size = crc32 = 0
            reading.crc32 = crc32
            while reading.read_some(_CHUNK):
                time.sleep(self._random.random() / 50)
            reading.hang_up()
            size, crc32 = size + reading.size, reading.crc32
        self._tally.pulls += size == blob.size
        self._tally.wrong += (size, crc32) != (blob.size, blob.crc32)

    def _open(self, blob: Stored, begin: int) -> Reading | None:
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        try:
            reading = Reading.open(f"{self._url}/v2/library/app/blobs/{blob.digest}", headers)
        except ConnectionRefusedError:
            self._tally.refused += 1
            return None
        except (OSError, http.client.HTTPException):
            self._tally.unanswered += 1
            return None
        if reading.status not in {200, 206}:
            self._tally.refusals.append(reading.status)
            reading.hang_up()
            return None
        self._tally.resumed += begin > 0
        return reading


class RestartTests(MirrorCase):
    def test_under_load(self) -> None:
        """Restarts on a port that stays open refuse no connection, and every pull is completed."""
        blobs = [self.registry.put_blob(4 * MB, seed=seed) for seed in range(_BLOBS)]
        self.registry.throttle(4 * MB)
        daemon = ActivatedDaemon(self.folder / "mirrord", Settings(self.registry.url, drain_timeout="100ms"))
        self.addCleanup(daemon.close)
        daemon.start()
        tally, is_over = Tally(), threading.Event()
        clients = [Client(daemon.url, blobs, tally, seed) for seed in range(_CLIENTS)]
        with ThreadPoolExecutor(_CLIENTS) as pool:
            pulling = [pool.submit(client.pull_until, is_over) for client in clients]
            try:
                for _ in range(RESTARTS):
                    time.sleep(0.3)
                    daemon.stop()
                    daemon.start()
            except BaseException:
                tally.is_aborted = True
                daemon.close()
                raise
            finally:
                is_over.set()
        for each in pulling:
            each.result()
        daemon.stop()
        self.assertEqual((tally.refused, tally.unanswered, tally.refusals, tally.wrong), (0, 0, [], 0), tally)
        self.assertGreater(tally.resumed, 0, "no restart interrupted a pull")
        self.assertGreater(tally.pulls, _CLIENTS)
