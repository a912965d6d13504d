"""Inject faults while clients work, and check that what was acknowledged stands, now and after a restart."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.fakes.images import make_image
from tests.fakes.registry_process import RegistryProcess
from tests.faults.injection import Injection, injected
from tests.integration.pushing import NOWHERE, Pusher
from tests.workload.checks import check, find_problems
from tests.workload.client import BROKEN, RandomClient, working
from tests.workload.daemon import KEEP_NOTHING, DiskDaemon, hosting
from tests.workload.history import History

_CLIENTS = 4
_HEAL_SECONDS = 90.0
_KILL_SECONDS = 30.0
_SHARED_SIZES, _SHARED_SEED = [40_000] * 8, 9
_REASON = re.compile(r"^\S+Z (warn|error|critical) ", re.MULTILINE)


@attrs.frozen
class Site:
    """A folder for daemons, an upstream, and content of it that clients push too."""

    folder: Path
    upstream: str
    shared: Sequence[bytes]


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Provide an upstream."""
    registry = RegistryProcess.start()
    try:
        registry.put_image(*_SHARED_SIZES, seed=_SHARED_SEED)
        yield Site(
            folder, registry.url, [layer.content for layer in make_image(_SHARED_SIZES, _SHARED_SEED).layers]
        )
    finally:
        registry.stop()


@contextmanager
def load(site: Site, daemon: DiskDaemon, history: History, seed: int) -> Iterator[None]:
    """Let clients push and pull, and sweeps evict, while the block runs."""
    clients = [
        RandomClient(name=f"c{number}", port=daemon.port, history=history, seed=seed, shared=site.shared)
        for number in range(_CLIENTS)
    ]
    is_over = threading.Event()
    sweeping = threading.Thread(target=_sweep, args=(daemon, is_over))
    with working(clients):
        sweeping.start()
        try:
            yield
        finally:
            is_over.set()
            sweeping.join()


def _sweep(daemon: DiskDaemon, is_over: threading.Event) -> None:
    while not is_over.wait(0.2):
        daemon.run("gc")


def try_daemon(site: Site, injection: Injection, seconds: float, seed: int) -> list[str]:
    """Inject faults into a daemon that works, and return what is wrong then and afterwards.

    Only a fault that is fatal may end it, or a reason that it logs; without faults it works again. After a
    restart it has what was acknowledged.
    """
    daemon = DiskDaemon(site.folder, hosting(site.upstream, max_size="100 KiB"))
    history = History(time.monotonic)
    problems = []
    try:
        daemon.start()
        with load(site, daemon, history, seed):
            time.sleep(0.5)
            logged_before = len(daemon.log)
            with injected(daemon.pid, injection):
                if injection.is_fatal:
                    problems += _wait_for_the_end(daemon)
                else:
                    time.sleep(seconds)
            if not injection.is_fatal:
                problems += _wait_for_pushes(daemon, logged_before)
        problems += daemon.bad_lines()
    finally:
        daemon.kill()
    daemon.settings = hosting(NOWHERE, KEEP_NOTHING)
    problems += find_problems(daemon, lambda pusher: check(pusher, history))
    return problems


def _wait_for_the_end(daemon: DiskDaemon) -> list[str]:
    deadline = time.monotonic() + _KILL_SECONDS
    while daemon.is_alive and time.monotonic() < deadline:
        time.sleep(0.05)
    return ["the fault did not happen"] if daemon.is_alive else []


def _wait_for_pushes(daemon: DiskDaemon, logged_before: int) -> list[str]:
    """Wait until the daemon takes pushes again, or has logged why it does not; return what is wrong."""
    deadline = time.monotonic() + _HEAL_SECONDS
    while daemon.is_alive and time.monotonic() < deadline:
        pusher = Pusher(daemon.port)
        try:
            pusher.push_image("team/healed", "v1", b"a layer")
            return []
        except (*BROKEN, AssertionError):
            time.sleep(0.5)
        finally:
            pusher.close()
    if _REASON.search(daemon.log[logged_before:]):
        return []
    return [f"the daemon {'refuses pushes' if daemon.is_alive else 'has ended'} and does not say why"]


def try_restore(site: Site, injection: Injection) -> list[str]:
    """Inject faults into `mirrord restore`, run it again without, and return what is wrong then."""
    source = DiskDaemon(site.folder / "source", hosting(site.upstream))
    history = History(time.monotonic)
    try:
        source.start()
        with load(site, source, history, seed=1):
            time.sleep(1)
        source.check_call("backup", "--copy", str(source.backup))
        source.stop()
    finally:
        source.kill()
    target = DiskDaemon(site.folder / "target", hosting(NOWHERE, KEEP_NOTHING))
    target.folder.mkdir(parents=True)
    main = [sys.executable, "-c", "from mirrord.cli.main import main; main()"]
    command = [*main, "restore", str(source.backup), "--config", str(target.write_config())]
    done = subprocess.run(
        ["strace", *injection.arguments(), *command], capture_output=True, text=True, check=False
    )
    problems = ["the restore printed a traceback"] if "Traceback" in done.stderr else []
    if done.returncode:
        target.check_call("restore", str(source.backup))
    pushed = History(time.monotonic)
    with pushed.attempt(*history.changes()):
        pass
    return problems + find_problems(target, lambda pusher: check(pusher, pushed))
