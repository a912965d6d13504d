"""`mirrord verify`: the integrity of all stored content."""

from collections.abc import Iterable

import click

from mirrord.cli.admin_client import Document
from mirrord.cli.exit_status import CommandError
from mirrord.cli.formatting import format_count, format_duration, format_size, print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.offline_daemon import connect
from mirrord.cli.progress import ProgressDisplay


@click.command()
@click.option("--json", "is_json", is_flag=True, help="Print one line of JSON per event.")
@with_global_options
def verify(options: GlobalOptions, *, is_json: bool) -> None:
    """Verify all stored content and repair it from the upstreams.

    Hashes every file while clients are served. Corrupt content is quarantined at once, then downloaded
    again. Exits with status 1 if some of it is lost: push it again if it is hosted.
    """
    with connect(options) as daemon:
        events = daemon.events("/verify")
        if is_json:
            lost = _print_json(events)
        else:
            with ProgressDisplay() as display:
                lost = _show(events, display)
    if lost:
        raise CommandError(f"{format_count(lost, 'entry')} could not be repaired")


def _print_json(events: Iterable[Document]) -> int:
    """Print the events as received; return the number of lost entries."""
    lost = 0
    for event in events:
        print_json(event)
        lost += _is_loss(event)
    return lost


def _show(events: Iterable[Document], display: ProgressDisplay) -> int:
    """Print the results, with a progress bar on a terminal; return the number of lost entries."""
    lost = 0
    for event in events:
        lost += _is_loss(event)
        if event["event"] == "progress":
            display.update("hashed", event["bytes"], event["of_bytes"])
        else:
            display.print(_format(event))
    return lost


def _format(event: Document) -> str:
    match event["event"]:
        case "corrupt" | "missing" as problem:
            users = ", ".join(event.get("repositories") or ["no repository"])
            return f"{event['kind']} {event['digest']} is {problem}; used by {users}"
        case "fetched":
            return f"{event['digest']} was downloaded again"
        case "lost":
            return f"{event['digest']} could not be downloaded again: {event['message']}"
        case "done":
            entries, size = format_count(event["entries"], "entry"), format_size(event["bytes"])
            problems = [
                f"{number} {problem}" for problem in ("corrupt", "missing") if (number := event.get(problem))
            ]
            repaired = f", {event['fetched']} downloaded again" if problems else ""
            result = ", ".join(problems) or "no errors"
            return f"{entries}, {size} hashed in {format_duration(event['seconds'])}: {result}{repaired}"
    return str(event)


def _is_loss(event: Document) -> bool:
    if event["event"] == "failed":
        raise CommandError(str(event.get("message")))
    return bool(event["event"] == "lost")
