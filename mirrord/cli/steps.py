"""Steps: what changes a host, one at a time.

A step can be shown before it is taken, which is all that `--dry-run` needs; and taking it twice does no
more than taking it once, which is what makes an installation safe to run again.
"""

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

import attrs

_COMMAND_SECONDS = 600.0
"""A start waits for the recovery of the store, a stop for running pulls; both are bounded in the unit."""


class StepError(Exception):
    """A step could not be taken; the message is one line for the operator."""


class Step(Protocol):
    """One change of the host."""

    def show(self) -> str:
        """What taking it would do, in full: a line, or a file."""

    def take(self) -> str:
        """Do it, and say in a line what came of it.

        Raises:
            StepError: A command failed.
            OSError: A file could not be written or removed.
        """


@attrs.frozen
class File:
    """A file with this content; one that `is_theirs` is only written where there is none."""

    path: Path
    content: str
    is_theirs: bool = False

    @property
    def is_done(self) -> bool:
        """Whether nothing would be written."""
        try:
            return self.path.read_text("utf-8") == self.content or self.is_theirs
        except FileNotFoundError:
            return False

    def show(self) -> str:
        """The path, and the content if it is to be written."""
        return f"==> {self.path} stays as it is" if self.is_done else f"==> {self.path}\n{self.content}"

    def take(self) -> str:
        """Write it at once or not at all."""
        if self.is_done:
            return f"left    {self.path}"
        self.path.parent.mkdir(0o755, parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.new")
        draft.write_text(self.content, "utf-8")
        draft.chmod(0o644)
        draft.replace(self.path)
        return f"wrote   {self.path}"


@attrs.frozen
class Link:
    """A symbolic link to `target`, turned if it leads elsewhere; what is no link is left alone."""

    path: Path
    target: Path

    def show(self) -> str:
        """The link as `ls -l` writes it."""
        return f"==> {self.path} -> {self.target}"

    def take(self) -> str:
        """Make it, in a folder that may have to be made."""
        if self.path.is_symlink() and self.path.readlink() != self.target:
            self.path.unlink()
        if self.path.is_symlink() or self.path.exists():
            return f"left    {self.path}"
        self.path.parent.mkdir(0o755, parents=True, exist_ok=True)
        self.path.symlink_to(self.target)
        return f"linked  {self.path}"


@attrs.frozen
class Removal:
    """The end of a file, a link, or a folder with all that is in it."""

    path: Path

    def show(self) -> str:
        """What goes."""
        return f"==> {self.path} is removed"

    def take(self) -> str:
        """Remove it if it is there."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        elif self.path.is_symlink() or self.path.exists():
            self.path.unlink()
        else:
            return f"absent  {self.path}"
        return f"removed {self.path}"


@attrs.frozen
class Command:
    """A command that has to succeed; `advice` is said instead of its own words if it does not."""

    words: tuple[str, ...]
    advice: str = ""

    def show(self) -> str:
        """The command as one would type it."""
        return f"$ {shlex.join(self.words)}"

    def take(self) -> str:
        """Run it; what it prints is shown only if it fails."""
        done = subprocess.run(  # noqa: S603 - the words are our own
            self.words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            said = self.advice or " ".join(done.stdout.split()) or f"status {done.returncode}"
            raise StepError(f"{shlex.join(self.words)}: {said}")
        return f"ran     {shlex.join(self.words)}"
