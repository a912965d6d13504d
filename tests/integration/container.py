"""Containers that run Debian 12 with systemd as the first process and a copy of this checkout.

The root is created once by debootstrap and cached; each container has an overlay of its own, which is deleted
with it. A folder of wheels is mounted read-only: nothing is downloaded inside. Containers share the host's
network, so that a test can be their client or their upstream.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import attrs

from tests.integration.daemon import ROOT

_CACHE = Path(os.environ.get("MIRRORD_TEST_CACHE", "/var/cache/mirrord-tests"))
CHECKOUT = Path("/srv/mirrord")
_WHEELS = Path("/srv/wheels")
_PROGRAMS = ("debootstrap", "systemd-nspawn", "nsenter", "setpriv", "unshare", "pgrep", "git")
_PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates"
_SUITE, _PYTHON = "bookworm", "3.11"
_BOOT_SECONDS = 60.0
_COMMAND_SECONDS = 300.0


def missing() -> str | None:
    """Return why this host cannot run containers, or None."""
    if os.geteuid() != 0:
        return "only root can start a container"
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return None


class ContainerUnavailable(Exception):
    """The root or the wheels cannot be fetched; this is not a failure of mirrord."""


def _cached(name: str, command: Callable[[Path], Sequence[str]]) -> Path:
    """Return a folder of the cache; if it is missing, create it with `command`, completely or not at all."""
    folder = _CACHE / name
    if not folder.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=_CACHE))
        draft.chmod(0o755)
        done = subprocess.run(command(draft), capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            lines = (done.stdout + done.stderr).splitlines()
            raise ContainerUnavailable(f"creating {name} failed: {lines[-1] if lines else done.returncode}")
        draft.rename(folder)
    return folder


def _debian() -> Path:
    return _cached(
        f"{_SUITE}-root",
        lambda draft: ("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(draft)),
    )


def _wheels() -> Path:
    """Return a folder of the wheels that `pip install .` requirements: dependencies and the build backend."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    name = f"wheels-{hashlib.sha256(repr(requirements).encode()).hexdigest()[:12]}"
    options = ("--quiet", "--only-binary=:all:", f"--python-version={_PYTHON}")
    return _cached(
        name,
        lambda draft: (sys.executable, "-m", "pip", "download", *options, f"--dest={draft}", *requirements),
    )


def _remove_leftovers() -> None:
    """Remove the containers of test runs that were killed."""
    for folder in _CACHE.glob("nspawn-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            subprocess.run(["umount", "--quiet", str(folder / "root")], check=False)
            shutil.rmtree(folder, ignore_errors=True)


def _copy_checkout(folder: Path) -> None:
    """Copy the files of a clone: those that git tracks or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)


@attrs.define(eq=False)
class Container:
    """A container. `start` it, and `stop` it in any case; it is killed with this process."""

    folder: Path
    options: tuple[str, ...]
    _process: "subprocess.Popen[bytes] | None" = attrs.field(default=None, init=False)

    @classmethod
    def start(cls, *options: str) -> Self:
        """Create and boot a container; return when its systemd has started everything.

        Raises:
            ContainerUnavailable: Its root or its wheels cannot be fetched.
        """
        debian, wheels = _debian(), _wheels()
        _remove_leftovers()
        folder = Path(tempfile.mkdtemp(prefix=f"nspawn-{os.getpid()}-", dir=_CACHE))
        root, upper, work = folder / "root", folder / "upper", folder / "work"
        for each in (root, upper, work):
            each.mkdir(mode=0o755)
        layers = f"lowerdir={debian},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(root)], check=True)
        container = cls(folder, (f"--bind-ro={wheels}:{_WHEELS}", *options))
        try:
            _copy_checkout(root / CHECKOUT.relative_to("/"))
            container.boot()
        except BaseException:
            container.stop()
            raise
        return container

    def boot(self) -> None:
        """Start the first process."""
        with (self.folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                (
                    # Killing this process kills its children, and killing the first process of a namespace
                    # kills the whole namespace; nspawn alone ensures neither.
                    *("setpriv", "--pdeathsig=KILL"),
                    *("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"),
                    *("systemd-nspawn", f"--directory={self.root}", f"--machine=mirrord-test-{os.getpid()}"),
                    *("--boot", "--register=no", "--keep-unit", "--console=pipe", "--quiet"),
                    *self.options,
                ),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self._wait_until_booted(self._process)

    @property
    def root(self) -> Path:
        """The file system of the container, as a path on the host."""
        return self.folder / "root"

    @property
    def first_process(self) -> int | None:
        """The pid of the first process on the host, if it is running."""
        if self._process is None or self._process.poll() is not None:
            return None
        process = self._process.pid
        for _ in ("nspawn", "systemd"):
            found = subprocess.run(["pgrep", f"--parent={process}"], capture_output=True, check=False)
            if not found.stdout:
                return None
            process = int(found.stdout.split()[0])
        return process

    def open(self, command: str) -> "subprocess.Popen[str]":
        """Start a shell command in the checkout inside the container; pip sees only the folder of wheels."""
        enter = ("nsenter", f"--target={self.first_process}", "--mount", "--uts", "--ipc", "--net", "--pid")
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        pip = ("PIP_NO_INDEX=1", f"PIP_FIND_LINKS={_WHEELS}")
        return subprocess.Popen(
            (*enter, "env", "-i", path, *pip, "HOME=/root", "sh", "-c", f"cd {CHECKOUT} && {command}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def execute(self, command: str, seconds: float = _COMMAND_SECONDS) -> "subprocess.CompletedProcess[str]":
        """Run a shell command inside the container."""
        with self.open(command) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def run(self, command: str) -> str:
        """Run a shell command that has to succeed; return its output."""
        done = self.execute(command)
        if done.returncode:
            journal = self.execute("journalctl --unit=mirrord --lines=30").stdout
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}\n{journal}")
        return done.stdout

    def reboot(self) -> None:
        """Reboot the container from inside; nspawn exits, so boot it again."""
        self.execute("systemctl reboot")
        if self._process is not None:
            self._process.wait(_BOOT_SECONDS)
        self.boot()

    def stop(self) -> None:
        """Kill everything in the container, and delete its files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        subprocess.run(["umount", "--lazy", str(self.root)], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_until_booted(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _BOOT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.execute("systemctl is-system-running", 10).stdout.strip() in {"running", "degraded"}:
                    return
            time.sleep(0.2)
        raise AssertionError(
            f"the container did not boot:\n{(self.folder / 'console').read_text(errors='replace')}"
        )
