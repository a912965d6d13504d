"""A host with the service's user, folders and configuration, as root's commands find it.

Every command runs in a mount namespace of its own, in which folders of the test take the place of the host's.
The interpreter of the tests may be below a folder that only root can read; there it is readable for all.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import attrs

from tests.integration.command import Ended
from tests.integration.daemon import ROOT

_MAIN = "from mirrord.cli.main import main; main()"
_PLACES = ("etc", "run", "var/lib", "var/cache")
_PRELUDE = """
set -e
for place in etc run var/lib var/cache; do mount --bind "$1/$place" "/$place"; done
if [ -n "$2" ]; then
    mkdir -p "$1/python" && mount --bind "$3" "$1/python" && mount -t tmpfs -o mode=755 tmpfs "$2"
    mkdir -p "$3" && mount --bind "$1/python" "$3"
fi
shift 3
exec "$@"
"""


@attrs.frozen
class User:
    """A user of the host, in the groups of these numbers."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


ROOT_USER = User(0, 0)
SERVICE = User(12_345, 12_346)
MEMBER = User(12_347, 12_347, (SERVICE.gid,))
STRANGER = User(12_348, 12_348)


def missing() -> str | None:
    """Return why such a host is impossible here; None if it is possible."""
    if os.geteuid() != 0:
        return "only root can act as other users"
    is_permitted = subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0
    if not is_permitted or shutil.which("setpriv") is None:
        return "mount namespaces are not permitted here"
    return None


@attrs.define(eq=False)
class ServiceHost:
    """The host, whose files are in `folder`."""

    folder: Path
    _daemon: "subprocess.Popen[bytes] | None" = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir()
        for folder in (self.folder, *self.folder.parents[:-2]):
            folder.chmod(0o755)
        shutil.copytree("/etc", self.folder / "etc", symlinks=True)
        with (self.folder / "etc/passwd").open("a") as users:
            users.write(f"mirrord:x:{SERVICE.uid}:{SERVICE.gid}::/nonexistent:/bin/false\n")
        with (self.folder / "etc/group").open("a") as groups:
            groups.write(f"mirrord:x:{SERVICE.gid}:\n")
        for place in _PLACES:
            (self.folder / place / "mirrord").mkdir(0o750, parents=True)
        (self.folder / "etc/mirrord").chmod(0o755)
        for place in _PLACES[1:]:
            os.chown(self.folder / place / "mirrord", SERVICE.uid, SERVICE.gid)

    @property
    def store(self) -> Path:
        return self.folder / "var/cache/mirrord"

    def configure(self, text: str) -> None:
        """Write the service's configuration."""
        (self.folder / "etc/mirrord/mirrord.toml").write_text(text)

    def mirrord(self, *arguments: str, user: User = ROOT_USER) -> Ended:
        """Run a command line of mirrord as a user."""
        with self.open([sys.executable, "-c", _MAIN, *arguments], user) as command:
            out, err = command.communicate(timeout=120)
        return Ended(command.returncode, out, err)

    def open(self, words: list[str], user: User = ROOT_USER) -> "subprocess.Popen[str]":
        """Begin to run a command as a user."""
        return subprocess.Popen(
            self._command(words, user),
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start_daemon(self) -> None:
        """Start the daemon as the service, and wait for its socket."""
        twistd = [sys.executable, str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
        with (self.folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                self._command([*twistd, "mirrord", "--config", "/etc/mirrord/mirrord.toml"], SERVICE),
                cwd="/",
                env={
                    **_environment(),
                    "RUNTIME_DIRECTORY": "/run/mirrord",
                    "STATE_DIRECTORY": "/var/lib/mirrord",
                    "CACHE_DIRECTORY": "/var/cache/mirrord",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not (self.folder / "run/mirrord/command").exists():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "log").read_text())
            time.sleep(0.05)

    def stop_daemon(self) -> None:
        """Stop the daemon, if it runs."""
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(60)
            self._daemon = None

    def _command(self, words: list[str], user: User) -> list[str]:
        """Return a command line that runs another on this host, as a user."""
        base = Path(sys.base_prefix)
        closed = next((each for each in reversed(base.parents) if not each.stat().st_mode & 0o001), "")
        groups = f"--groups={','.join(map(str, user.groups))}" if user.groups else "--clear-groups"
        become = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", groups]
        namespace = ["unshare", "--mount", "sh", "-c", _PRELUDE, "sh"]
        return [*namespace, str(self.folder), str(closed), str(base), *become, *words]


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "COLUMNS": "120"}
