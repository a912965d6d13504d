"""A daemon whose store can be on a disk of its own, and that evicts whatever it may."""

from pathlib import Path

import attrs

from tests.integration.command import Ended, mirrord
from tests.integration.daemon import Daemon, Settings

HOSTED = '[hosted]\nrepositories = ["team/*"]\npush_from_loopback = true\n'

KEEP_NOTHING = "1 B"
"""A `max_size` with which a sweep evicts all mirrored content, and all that it takes for such."""


@attrs.define(eq=False)
class DiskDaemon(Daemon):
    """A daemon with its store below `disk` of its folder, where a disk can be mounted."""

    @property
    def disk(self) -> Path:
        """Where the disk of the store is mounted."""
        return self.folder / "disk"

    @property
    def store(self) -> Path:
        return self.disk / "store"

    @property
    def backup(self) -> Path:
        """A folder for backups, on the same disk."""
        return self.disk / "backup"

    def run(self, command: str, *arguments: str) -> Ended:
        """Run a command of mirrord with the configuration of this daemon."""
        config = self.write_config()
        environment = {"LD_PRELOAD": self.environment.get("LD_PRELOAD", "")}
        return mirrord(command, *arguments, "--config", str(config), home=self.folder, **environment)

    def check_call(self, command: str, *arguments: str) -> None:
        """Run a command of mirrord, which has to succeed."""
        ended = self.run(command, *arguments)
        if ended.status:
            raise AssertionError(f"mirrord {command} failed: {ended.err or ended.out}\n{self.log[-4000:]}")


def hosting(upstream: str, max_size: str | None = None) -> Settings:
    """Return settings of a daemon that hosts `team/*` and mirrors `upstream`."""
    return Settings(upstream, max_size=max_size, more=HOSTED)
