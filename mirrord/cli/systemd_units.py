"""The systemd units and the first configuration, with the paths of this installation.

They are rendered from the files in `systemd/` of the checkout, which are valid as they are for an
installation in /opt/mirrord; only paths differ. A wheel carries these files as package data; from a checkout
they are read in place.
"""

import pwd
import re
import stat
import sys
import sysconfig
from pathlib import Path
from typing import Self

import attrs

SERVICE = "mirrord.service"
SOCKET = "mirrord.socket"
SYSUSERS = "mirrord.sysusers"

USER = "mirrord"
"""The user of the service, as declared in `mirrord.sysusers`."""

HOME = Path("/opt/mirrord")
"""The virtual environment that the files in `systemd/` assume, and that we recommend."""

SOCKET_ENDPOINT = "systemd:domain=INET:name=mirrord"
"""The endpoint of a listener on the port of `mirrord.socket`; the name is its FileDescriptorName."""

_OWN_ENDPOINT = "tcp:5000:interface=127.0.0.1"
_HIDDEN = tuple(map(Path, ("/root", "/home", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108 - rejected
_PLAIN_PATH = re.compile(r"[\w/.+@~:-]+", re.ASCII)
"""Characters that need no escape in a unit, a shell command or a shebang line."""


@attrs.frozen
class Installation:
    """A virtual environment with mirrord: its folder, its scripts, and the base Python."""

    prefix: Path
    scripts: Path
    base: Path

    @classmethod
    def current(cls) -> Self:
        """Return the environment that this code runs in."""
        return cls(Path(sys.prefix), Path(sysconfig.get_path("scripts")), Path(sys.base_prefix))

    @property
    def twistd(self) -> Path:
        """The script that runs the daemon."""
        return self.scripts / "twistd"

    @property
    def command(self) -> Path:
        """The operator's command."""
        return self.scripts / "mirrord"

    def service_obstacle(self) -> str | None:
        """Return why a service cannot run from here; None if it can."""
        for folder in (self.prefix, self.base):
            hidden = next((each for each in _HIDDEN if folder.resolve().is_relative_to(each)), None)
            if hidden is not None:
                return (
                    f"{folder} is not accessible to a service, which cannot see {hidden}; install in {HOME}"
                )
        if not _PLAIN_PATH.fullmatch(str(self.scripts)):
            return f"the path {self.scripts} has characters that a unit cannot contain; install in {HOME}"
        closed = next((each for each in (self.twistd, *self.twistd.parents) if _is_closed(each)), None)
        if closed is not None:
            return f"the service's user has no access to {closed}; run: chmod -R go+rX {self.prefix}"
        return None


def template(name: str) -> str:
    """Return a file of `systemd/`, such as SOCKET."""
    package = Path(__file__).parents[1]
    packaged = package / "systemd"
    folder = packaged if packaged.is_dir() else package.parent / "systemd"
    return (folder / name).read_text("utf-8")


def service_unit(installation: Installation) -> str:
    """Return `mirrord.service`, with this installation's twistd."""
    return template(SERVICE).replace(str(HOME / "bin" / "twistd"), str(installation.twistd))


def configuration(*, is_socket: bool) -> str:
    """Return a first `mirrord.toml` with comments; with `is_socket` on the port of `mirrord.socket`."""
    text = template("mirrord.toml")
    return text.replace(_OWN_ENDPOINT, SOCKET_ENDPOINT) if is_socket else text


def service_user() -> pwd.struct_passwd | None:
    """Return the service's user; None if it does not exist on this host."""
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return None


def _is_closed(path: Path) -> bool:
    return path.exists() and not path.stat().st_mode & stat.S_IXOTH
