"""Progress display: lines of output, and on a terminal progress bars below them."""

from contextlib import AbstractContextManager
from typing import Self

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn


@attrs.define(eq=False)
class ProgressDisplay(AbstractContextManager["ProgressDisplay"]):
    """Prints lines; the bars are shown on a terminal only and leave nothing behind."""

    _bars: Progress = attrs.field(init=False)
    _tasks: dict[str, TaskID] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        console = Console(highlight=False, emoji=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def print(self, line: str) -> None:
        """Print a line above the bars."""
        if self._bars.disable:
            click.echo(line)
        else:
            self._bars.console.print(line, markup=False)

    def update(self, name: str, completed: int, total: int | None) -> None:
        """Show a bar for `name`; `total` is None while it is unknown."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=completed, total=total)

    def remove(self, name: str) -> None:
        """Remove the bar of `name`."""
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
