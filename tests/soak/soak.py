"""Mixed random work on a daemon, with faults, in rounds; after each, everything is compared with the model.

Clients push, mount, tag, delete, pull, request ranges and abandon both, while the upstream fails in all its
ways, sweeps evict, the daemon reloads, and is killed and started again. A round ends with a check of every
fact. What the daemon uses of memory, descriptors and disk is sampled meanwhile; all three have to stay
bounded, since the variety of the content is.
"""

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from tests.fakes.faults import Cut, Delay, Fault, Hang, Html, Kind, NoRange, Stall, Status, WrongByte
from tests.fakes.images import make_image
from tests.fakes.registry_process import RegistryProcess, Stored
from tests.integration.client import Reading
from tests.integration.pushing import Pusher
from tests.workload.checks import check
from tests.workload.client import BROKEN, RandomClient, working
from tests.workload.daemon import DiskDaemon, hosting
from tests.workload.history import History

ROUND_SECONDS = 20.0

_CLIENTS, _READERS = 4, 3
_VARIETY = 40
_SHARED_SIZES, _SHARED_SEED = [40_000] * 8, 9
_MIRRORED_BLOBS, _BLOB_SIZE = 12, 2_000_000
_MAX_SIZE = "12 MB"
_SAMPLE_SECONDS = 1.0

_FAULTS: tuple[Fault, ...] = (
    Cut(after=500_000),
    Cut(after=0, abort=True),
    Stall(after=300_000, seconds=1.0),
    WrongByte(at=1_000_000),
    NoRange(times=3),
    Hang(),
    Html(),
    Status(429, retry_after=1),
    Status(503, times=3),
    Status(404, on=Kind.CONTENT),
    Delay(seconds=0.3, times=5),
)


@attrs.frozen
class Sample:
    """What the daemon uses, after so many seconds."""

    seconds: float
    memory: int
    descriptors: int
    disk: int


@attrs.define(eq=False)
class Reader:
    """A client that pulls mirrored blobs, whole or a range, and sometimes leaves before the end."""

    port: int
    blobs: Sequence[Stored]
    seed: int
    wrong: list[str] = attrs.field(factory=list, init=False)
    pulls: int = attrs.field(default=0, init=False)

    def run(self, is_over: threading.Event) -> None:
        """Pull until `is_over` is set."""
        dice = random.Random(f"{self.seed} reader")
        while not is_over.is_set():
            try:
                self._pull(dice, dice.choice(self.blobs))
            except BROKEN:
                is_over.wait(0.02)

    def _pull(self, dice: random.Random, blob: Stored) -> None:
        begin = dice.choice((0, 0, dice.randrange(blob.size)))
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        url = f"http://127.0.0.1:{self.port}/v2/library/app/blobs/{blob.digest}"
        reading = Reading.open(url, headers, timeout=30)
        if dice.random() < 0.2:
            reading.read_until(dice.randrange(blob.size))
            reading.hang_up()
            return
        pulled = reading.read_all()
        self.pulls += 1
        if (
            pulled.status == 200
            and pulled.is_complete
            and (pulled.size, pulled.crc32) != (blob.size, blob.crc32)
        ):
            self.wrong.append(f"{blob.digest} was complete and wrong")
        if pulled.status == 206 and pulled.is_complete and pulled.size != blob.size - begin:
            self.wrong.append(f"{blob.digest} from {begin}: {pulled.size} bytes")


@attrs.define(eq=False)
class Soak:
    """A daemon, an upstream and their clients; `samples` and `problems` grow with each round."""

    daemon: DiskDaemon
    registry: RegistryProcess
    seed: int
    began_at: float
    samples: list[Sample] = attrs.field(factory=list, init=False)
    problems: list[str] = attrs.field(factory=list, init=False)
    steps: int = attrs.field(default=0, init=False)
    pulls: int = attrs.field(default=0, init=False)
    facts: int = attrs.field(default=0, init=False)
    kills: int = attrs.field(default=0, init=False)
    _history: History = attrs.field(factory=lambda: History(time.monotonic), init=False)
    _blobs: list[Stored] = attrs.field(factory=list, init=False)
    _dice: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._blobs = [self.registry.put_blob(_BLOB_SIZE, seed=number) for number in range(_MIRRORED_BLOBS)]
        self.registry.put_image(*_SHARED_SIZES, seed=_SHARED_SEED)

    def run_round(self, number: int) -> None:
        """Work for a while with faults on, and then compare everything with the model."""
        shared = [layer.content for layer in make_image(_SHARED_SIZES, _SHARED_SEED).layers]
        clients = [
            RandomClient(
                name=f"c{place}",
                port=self.daemon.port,
                history=self._history,
                seed=self.seed + number,
                shared=shared,
                variety=_VARIETY,
            )
            for place in range(_CLIENTS)
        ]
        readers = [
            Reader(self.daemon.port, self._blobs, self.seed + number + place) for place in range(_READERS)
        ]
        with _running([reader.run for reader in readers]), _running([self._sample]), working(clients):
            deadline = time.monotonic() + ROUND_SECONDS
            while time.monotonic() < deadline:
                self._disturb()
                time.sleep(self._dice.uniform(0.2, 1.5))
        self.registry.heal()
        self.steps += sum(client.steps for client in clients)
        self.pulls += sum(reader.pulls for reader in readers)
        self.problems += [problem for reader in readers for problem in reader.wrong]
        self._compare()

    def _disturb(self) -> None:
        """Do something that a daemon has to survive."""
        match self._dice.randrange(12):
            case 0:
                self.daemon.kill()
                self.daemon.start()
                self.kills += 1
            case 1:
                self.daemon.settings = attrs.evolve(
                    self.daemon.settings, tag_ttl=self._dice.choice(("100ms", "1m"))
                )
                self.daemon.write_config()
                self.daemon.signal(signal.SIGHUP)
            case 2:
                self.daemon.run("gc")
            case 3:
                self.registry.heal()
            case 4:
                self.registry.down()
                time.sleep(self._dice.uniform(0.1, 1.0))
                self.registry.up()
            case _:
                self.registry.play(self._dice.choice(_FAULTS))

    def _compare(self) -> None:
        pusher = Pusher(self.daemon.port)
        self.problems += [str(violation) for violation in check(pusher, self._history)]
        pusher.close()
        self.problems += self.daemon.bad_lines()
        self.facts += len(self._history.facts())
        self._history = self._history.continued(time.monotonic, time.monotonic())

    def _sample(self, is_over: threading.Event) -> None:
        while not is_over.wait(_SAMPLE_SECONDS):
            with contextlib.suppress(
                OSError, AssertionError, IndexError, ValueError
            ):  # it may just be killed
                memory, descriptors = self.daemon.anonymous_memory(), self.daemon.open_files()
                now = time.monotonic() - self.began_at
                self.samples.append(Sample(now, memory, descriptors, self.daemon.disk_bytes()))


@contextlib.contextmanager
def _running(functions: Sequence[Callable[[threading.Event], None]]) -> Iterator[None]:
    """Run functions in threads while the block runs."""
    is_over = threading.Event()
    threads = [threading.Thread(target=function, args=(is_over,)) for function in functions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def soak(folder: Path, seed: int) -> Iterator[Soak]:
    """Start a daemon and its upstream; stop both, and check that the daemon ends cleanly."""
    registry = RegistryProcess.start()
    daemon = DiskDaemon(folder, hosting(registry.url, max_size=_MAX_SIZE))
    try:
        daemon.start()
        yield Soak(daemon, registry, seed, time.monotonic())
        daemon.stop()
    finally:
        daemon.kill()
        registry.stop()
