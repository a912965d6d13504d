"""Units: what systemd is told of us, with the paths of this installation in it.

The files in `systemd/` of the checkout are the only source: valid as they are for an installation in
/opt/mirrord, and what is rendered differs from them in nothing but paths. A wheel carries them as package
data, a checkout is read where it lies.
"""

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
CONFIG = "mirrord.toml"

HOME = Path("/opt/mirrord")
"""Where the files of `systemd/` suppose a virtual environment, and where we advise one to be."""

SOCKET_ENDPOINT = "systemd:domain=INET:name=mirrord"
"""The listener that takes the port over from `mirrord.socket`; its FileDescriptorName is the name."""

_OWN_ENDPOINT = "tcp:5000:interface=127.0.0.1"
_HIDDEN = tuple(map(Path, ("/root", "/home", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108 - to refuse them
_PLAIN_PATH = re.compile(r"[\w/.+@~:-]+", re.ASCII)
"""What means itself in every line of a unit, of a shell and of a shebang."""


@attrs.frozen
class Installation:
    """A virtual environment that holds mirrord: its folder, its scripts, and the Python it was made from."""

    prefix: Path
    scripts: Path
    base: Path

    @classmethod
    def current(cls) -> Self:
        """The one that this code runs in."""
        return cls(Path(sys.prefix), Path(sysconfig.get_path("scripts")), Path(sys.base_prefix))

    @property
    def twistd(self) -> Path:
        """What runs the daemon."""
        return self.scripts / "twistd"

    @property
    def command(self) -> Path:
        """The operator's command."""
        return self.scripts / "mirrord"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.scripts / "python"

    def objection(self) -> str | None:
        """Why a service cannot run from here, as a sentence, or None if it can."""
        for folder in (self.prefix, self.base):
            hidden = next((each for each in _HIDDEN if folder.resolve().is_relative_to(each)), None)
            if hidden is not None:
                return f"a service cannot see {folder}, for {hidden} is hidden from it; install in {HOME}"
        if not _PLAIN_PATH.fullmatch(str(self.scripts)):
            return f"the path {self.scripts} cannot stand in a unit; install in {HOME}"
        closed = next((each for each in (self.twistd, *self.twistd.parents) if _is_closed(each)), None)
        if closed is not None:
            return f"the service may not enter {closed}: chmod -R go+rX {self.prefix}"
        return None


def service_unit(installation: Installation) -> str:
    """`mirrord.service`, started by this installation's twistd."""
    return _template(SERVICE).replace(str(HOME / "bin" / "twistd"), str(installation.twistd))


def socket_unit() -> str:
    """`mirrord.socket`."""
    return _template(SOCKET)


def sysusers() -> str:
    """The user that mirrord runs as, sysusers.d(5)."""
    return _template(SYSUSERS)


def configuration(*, is_socket: bool) -> str:
    """A first `mirrord.toml`, commented; with `is_socket` its port is the one of `mirrord.socket`."""
    text = _template(CONFIG)
    return text.replace(_OWN_ENDPOINT, SOCKET_ENDPOINT) if is_socket else text


def _is_closed(path: Path) -> bool:
    """Whether others than owner and group are kept from a script or folder that is there."""
    return path.exists() and not path.stat().st_mode & stat.S_IXOTH


def _template(name: str) -> str:
    package = Path(__file__).parents[1]
    shipped = package / "systemd"
    folder = shipped if shipped.is_dir() else package.parent / "systemd"
    return (folder / name).read_text("utf-8")
