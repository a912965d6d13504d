"""The screen: lines that stay, and below them, on a terminal, bars that move."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn


class Screen(Protocol):
    """Where a command says how it goes on."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def move(self, name: str, done: int, total: int | None) -> None:
        """So many bytes of `name` are done; `total` is None as long as nobody knows it."""

    def finish(self, name: str) -> None:
        """There is no more to be seen of `name`."""


def open_screen() -> AbstractContextManager[Screen]:
    """The screen of this terminal; without a terminal, lines alone."""
    console = Console(highlight=False, soft_wrap=True)
    return _Bars(console) if console.is_terminal else nullcontext(_Lines())


class _Lines:
    """Lines in a file or a pipe, where moving bars help nobody."""

    def say(self, line: str) -> None:
        click.echo(line)

    def move(self, name: str, done: int, total: int | None) -> None:
        pass

    def finish(self, name: str) -> None:
        pass


@attrs.define(eq=False)
class _Bars(AbstractContextManager[Screen]):
    """Bars on a terminal; they leave nothing behind."""

    _console: Console
    _progress: Progress = attrs.field(init=False)
    _tasks: dict[str, TaskID] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=self._console,
            transient=True,
        )

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        self._console.print(line, markup=False)

    def move(self, name: str, done: int, total: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done, total=total)

    def finish(self, name: str) -> None:
        if name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))
