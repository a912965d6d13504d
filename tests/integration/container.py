"""A Debian 12 with systemd as its first process, and this checkout on its disk.

The root is made once by debootstrap and kept; each container has an overlay of its own over it, so that
nothing a test does is left. A wheelhouse is bound in read-only: nothing is fetched inside. A container
shares the host's network, so that its clients and its upstream may be the test's own.
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

KEPT = Path(os.environ.get("MIRRORD_TEST_CACHE", "/var/cache/mirrord-tests"))
CHECKOUT = Path("/srv/mirrord")
_WHEELS = Path("/srv/wheels")
_PROGRAMS = ("debootstrap", "systemd-nspawn", "nsenter", "setpriv", "unshare", "pgrep", "git")
_PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates"
_SUITE, _PYTHON = "bookworm", "3.11"
_BOOT_SECONDS = 60.0
_COMMAND_SECONDS = 300.0


def missing() -> str | None:
    """Why no container can be had here, or None."""
    if os.geteuid() != 0:
        return "only root may start a container"
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return None


class Unmakable(Exception):
    """The root or the wheelhouse cannot be made; nothing is wrong with mirrord."""


def _kept(name: str, make: Callable[[Path], Sequence[str]]) -> Path:
    """A folder that is made once, whole or not at all."""
    folder = KEPT / name
    if not folder.is_dir():
        KEPT.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=KEPT))
        draft.chmod(0o755)
        made = subprocess.run(make(draft), capture_output=True, text=True, check=False)
        if made.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            lines = (made.stdout + made.stderr).splitlines()
            raise Unmakable(f"{name} cannot be made: {lines[-1] if lines else made.returncode}")
        draft.rename(folder)
    return folder


def _debian() -> Path:
    return _kept(
        f"{_SUITE}-root",
        lambda draft: ("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(draft)),
    )


def _wheels() -> Path:
    """What `pip install .` needs there: dependencies, and what builds the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needs = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    name = f"wheels-{hashlib.sha256(repr(needs).encode()).hexdigest()[:12]}"
    options = ("--quiet", "--only-binary=:all:", f"--python-version={_PYTHON}")
    return _kept(
        name,
        lambda draft: (sys.executable, "-m", "pip", "download", *options, f"--dest={draft}", *needs),
    )


def _sweep() -> None:
    """Remove what runs left behind that were killed."""
    for folder in KEPT.glob("nspawn-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            subprocess.run(["umount", "--quiet", str(folder / "root")], check=False)
            shutil.rmtree(folder, ignore_errors=True)


def _copy_checkout(folder: Path) -> None:
    """The files that git has or would take, as a clone would have them."""
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
    """A running one: `start` it, and `stop` it whatever happens; it dies with this process in any case."""

    folder: Path
    options: tuple[str, ...]
    _process: "subprocess.Popen[bytes] | None" = attrs.field(default=None, init=False)

    @classmethod
    def start(cls, *options: str) -> Self:
        """Make one and boot it; its systemd has started everything when this returns.

        Raises:
            Unmakable: Its parts are not to be had.
        """
        debian, wheels = _debian(), _wheels()
        _sweep()
        folder = Path(tempfile.mkdtemp(prefix=f"nspawn-{os.getpid()}-", dir=KEPT))
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
        """Start its first process."""
        with (self.folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                (
                    # Should this process be killed, so is what it started; and with the first process of
                    # a namespace goes everything in it, which nspawn alone does not see to.
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
        """Its file system, as the host sees it."""
        return self.folder / "root"

    @property
    def first_process(self) -> int | None:
        """The host's number of its first process, if it runs."""
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
        """Start a line of shell inside, in the checkout; pip finds the wheelhouse and nothing else."""
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

    def ask(self, command: str, seconds: float = _COMMAND_SECONDS) -> "subprocess.CompletedProcess[str]":
        """Run a line of shell inside, and wait for its end."""
        with self.open(command) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def run(self, command: str) -> str:
        """What a command printed that has to succeed."""
        done = self.ask(command)
        if done.returncode:
            journal = self.ask("journalctl --unit=mirrord --lines=30").stdout
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}\n{journal}")
        return done.stdout

    def reboot(self) -> None:
        """Reboot it as its own root does; nspawn ends and leaves the second start to us."""
        self.ask("systemctl reboot")
        if self._process is not None:
            self._process.wait(_BOOT_SECONDS)
        self.boot()

    def stop(self) -> None:
        """End it and all that runs in it, and remove what it wrote."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        subprocess.run(["umount", "--lazy", str(self.root)], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_until_booted(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _BOOT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.ask("systemctl is-system-running", 10).stdout.strip() in {"running", "degraded"}:
                    return
            time.sleep(0.2)
        raise AssertionError(f"it did not boot:\n{(self.folder / 'console').read_text(errors='replace')}")
