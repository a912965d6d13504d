"""What the daemon is doing when the power is cut: recordings of a disk under load, and of its recovery."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.integration.daemon import ROOT
from tests.power_cut.disk import copy_disk, make_disk, mounted, recorded
from tests.power_cut.recording import Recording
from tests.workload.client import RandomClient, working
from tests.workload.daemon import DiskDaemon, hosting
from tests.workload.history import Change, History

_CLIENTS = 4
_HURRIED = Path(__file__).with_name("hurried")


@attrs.frozen
class Conditions:
    """What all recordings of a campaign have in common.

    `shared` is content that clients push, and that can also be pulled from `upstream`; `preload` is a library
    that is loaded into every process of mirrord.
    """

    upstream: str
    shared: Sequence[bytes]
    seed: int = 1
    preload: str = ""


@attrs.frozen
class Span:
    """A part of a recording: from one size of the log to another."""

    begin: int
    end: int


@attrs.frozen(kw_only=True)
class Scenario:
    """A recording, what clients did meanwhile, and its parts by name.

    `backups` are the runs of `mirrord backup`, to a folder on the same disk, that succeeded; `restored_from`
    is the backup that was being restored.
    """

    recording: Recording
    history: History
    parts: Mapping[str, Span]
    backups: Sequence[Span] = ()
    restored_from: Path | None = None


@attrs.define(eq=False)
class _Stage:
    """A scenario in the making: a daemon on a disk that is recorded."""

    daemon: DiskDaemon
    recording: Recording
    history: History
    _conditions: Conditions
    parts: dict[str, Span] = attrs.field(factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Give a part of the recording a name."""
        begin = self.recording.size
        yield
        self.parts[name] = Span(begin, self.recording.size)

    def back_up(self) -> Span:
        """Run `mirrord backup`."""
        begin = self.recording.size
        self.daemon.check_call("backup", str(self.daemon.backup))
        return Span(begin, self.recording.size)


@contextmanager
def load(daemon: DiskDaemon, history: History, conditions: Conditions) -> Iterator[None]:
    """Let clients work with the daemon while the block runs."""
    clients = [
        RandomClient(
            name=f"c{number}",
            port=daemon.port,
            history=history,
            seed=conditions.seed,
            shared=conditions.shared,
        )
        for number in range(_CLIENTS)
    ]
    with working(clients):
        yield


def busy(folder: Path, conditions: Conditions) -> Scenario:
    """Record the first start on an empty disk, and then everything that a daemon does in its life."""
    image = folder / "empty"
    folder.mkdir()
    make_disk(image)
    with _stage(folder, image, conditions, History) as stage:
        with stage.part("first start"):
            stage.daemon.start()
        with load(stage.daemon, stage.history, conditions):
            with stage.part("load"):
                time.sleep(4)
            with stage.part("kill -9 and restart"):
                stage.daemon.kill()
                stage.daemon.start()
                time.sleep(1)
            with stage.part("backup"):
                backups = [stage.back_up(), stage.back_up()]
        with stage.part("restart"):
            stage.daemon.stop()
            stage.daemon.environment["PYTHONPATH"] = f"{_HURRIED}{os.pathsep}{ROOT}"
            stage.daemon.start()
        with stage.part("journal compaction"), load(stage.daemon, stage.history, conditions):
            time.sleep(2)
    return Scenario(recording=stage.recording, history=stage.history, parts=stage.parts, backups=backups)


def recovering(folder: Path, conditions: Conditions, begun: Scenario, at: int) -> Scenario:
    """Record the start after a power cut of another scenario, and a little load."""
    image = folder / "cut"
    folder.mkdir()
    begun.recording.cut(at, conditions.seed, image)
    stage_after = _stage(folder, image, conditions, lambda clock: begun.history.continued(clock, at))
    with stage_after as stage, stage.part("recovery"):
        stage.daemon.start()
        with load(stage.daemon, stage.history, conditions):
            time.sleep(0.5)
    return Scenario(recording=stage.recording, history=stage.history, parts=stage.parts)


def rebuilding(folder: Path, conditions: Conditions, begun: Scenario, at: int) -> Scenario:
    """Record the start after a power cut that also took the index: it is rebuilt from the journal."""
    image, mountpoint = folder / "cut", folder / "cut.mounted"
    folder.mkdir()
    begun.recording.cut(at, conditions.seed, image)
    with mounted(image, mountpoint):
        store = mountpoint / "store"
        index = store / "index.sqlite"
        (store / "index.sqlite-wal").unlink(missing_ok=True)
        match at % 3:
            case 0:
                index.unlink()
            case 1:
                index.write_bytes(b"")
            case 2:
                index.write_bytes(b"garbage" * 1000)
    stage_after = _stage(folder, image, conditions, lambda clock: begun.history.continued(clock, at))
    with stage_after as stage, stage.part("index lost"):
        stage.daemon.start()
        with load(stage.daemon, stage.history, conditions):
            time.sleep(0.5)
    return Scenario(recording=stage.recording, history=stage.history, parts=stage.parts)


def restoring(folder: Path, conditions: Conditions) -> Scenario:
    """Record `mirrord restore` on an empty disk, and the first start behind it."""
    image = folder / "empty"
    folder.mkdir()
    make_disk(image)
    backup, pushed = _make_backup(folder / "source", conditions)
    with _stage(folder, image, conditions, History) as stage, stage.part("restore"):
        with stage.history.attempt(*pushed):
            stage.daemon.check_call("restore", str(backup))
        stage.daemon.start()
    return Scenario(recording=stage.recording, history=stage.history, parts=stage.parts, restored_from=backup)


def _make_backup(folder: Path, conditions: Conditions) -> tuple[Path, list[Change]]:
    """Return a backup, and its content."""
    daemon, history = DiskDaemon(folder, hosting(conditions.upstream)), History(time.monotonic)
    try:
        daemon.start()
        with load(daemon, history, conditions):
            time.sleep(2)
        daemon.check_call("backup", str(daemon.backup))
        daemon.stop()
    finally:
        daemon.kill()
    return daemon.backup, history.changes()


@contextmanager
def _stage(
    folder: Path,
    image: Path,
    conditions: Conditions,
    make_history: Callable[[Callable[[], float]], History],
) -> Iterator[_Stage]:
    """Record a copy of a disk; afterwards the daemon is killed, and nothing stays mounted."""
    recording = Recording(image, folder / "log")
    recording.log.touch()
    copy = folder / "copy"
    copy_disk(image, copy)
    environment = {"LD_PRELOAD": conditions.preload}
    daemon = DiskDaemon(folder / "daemon", hosting(conditions.upstream, max_size="1 MiB"), environment)
    history = make_history(lambda: recording.size)
    with recorded(copy, recording.log) as disk, mounted(disk, daemon.disk):
        try:
            yield _Stage(daemon, recording, history, conditions)
        finally:
            daemon.kill()
    copy.unlink()
