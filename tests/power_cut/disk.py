"""Disks: a file with an ext4 on it, its mount, and its recording; each is undone at the end of its block."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

DISK_BYTES = 192 * 1024 * 1024

_ROOT = Path(__file__).parents[2]
_UNMOUNT_SECONDS = 10.0


def problem() -> str | None:
    """Return why this machine cannot record a disk, or None."""
    if os.geteuid() != 0:
        return "only root may mount"
    missing = [name for name in ("losetup", "mkfs.ext4", "mount", "umount") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    for device in ("/dev/fuse", "/dev/loop-control"):
        try:
            os.close(os.open(device, os.O_RDWR))
        except OSError as error:
            return f"{device}: {error.strerror}"
    return None


def make_disk(image: Path, *options: str) -> None:
    """Create a file with an empty ext4, small enough that copies of it are cheap; mkfs gets the options."""
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    eager = "lazy_itable_init=0,lazy_journal_init=0"
    _run("mkfs.ext4", "-q", "-b", "4096", "-J", "size=8", "-E", eager, *options, image)


def copy_disk(image: Path, target: Path) -> None:
    """Copy a disk, holes as holes."""
    _run("cp", "--sparse=always", image, target)


@contextmanager
def mounted(disk: Path, folder: Path) -> Iterator[None]:
    """Mount the ext4 on a file; its journal is recovered first, as after a power cut."""
    folder.mkdir(parents=True, exist_ok=True)
    device = _run("losetup", "--find", "--show", disk).strip()
    with ExitStack() as undo:
        undo.callback(_run, "losetup", "--detach", device)
        _run("mount", "-t", "ext4", device, folder)
        undo.callback(_unmount, folder)
        yield


@contextmanager
def recorded(image: Path, log: Path) -> Iterator[Path]:
    """Yield a file with the content of `image`, which changes; every change is appended to `log`."""
    mountpoint = log.with_suffix(".disk")
    mountpoint.touch()
    recorder = subprocess.Popen(
        [sys.executable, "-m", "tests.power_cut.recorder", str(mountpoint), str(image), str(log)],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Control-C is for us, who then unmount
    )
    with ExitStack() as undo:
        undo.callback(recorder.wait, 10)
        undo.callback(recorder.kill)
        assert recorder.stdout is not None
        undo.enter_context(recorder.stdout)
        if not recorder.stdout.readline():
            raise OSError("the recorder has failed; its error is above")
        undo.callback(_unmount, mountpoint)
        yield mountpoint


def _unmount(folder: Path) -> None:
    """Unmount, as soon as the last process that was killed has closed its files."""
    deadline = time.monotonic() + _UNMOUNT_SECONDS
    while subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            _run("umount", "--lazy", folder)
            raise OSError(f"{folder} is still in use")
        time.sleep(0.05)


def _run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout
