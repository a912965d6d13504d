"""`mirrord verify`: whether what is held is what it should be."""

from collections.abc import Iterable

import click

from mirrord.cli.admin_client import Document
from mirrord.cli.exit_status import CommandError
from mirrord.cli.formatting import format_count, format_duration, format_size, print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.offline_daemon import reach
from mirrord.cli.progress import Screen, open_screen


@click.command()
@click.option("--json", "is_json", is_flag=True, help="Print a line of JSON for each event.")
@with_global_options
def verify(settings: GlobalOptions, *, is_json: bool) -> None:
    """Hash all that is held; fetch again what is damaged.

    It reads every byte, gently: clients are served meanwhile. What is damaged is set aside at once. It
    ends well if all is whole, or could be fetched again; what a hosted repository has lost, and no upstream
    has, is to be pushed again.
    """
    with reach(settings) as daemon:
        events = daemon.events("/verify")
        if is_json:
            lost = _pass_on(events)
        else:
            with open_screen() as screen:
                lost = _show(events, screen)
    if lost:
        raise CommandError(f"{format_count(lost, 'entry')} could not be fetched again")


def _pass_on(events: Iterable[Document]) -> int:
    """How many entries are lost; every event goes out as it came."""
    lost = 0
    for event in events:
        print_json(event)
        lost += _check(event)
    return lost


def _show(events: Iterable[Document], screen: Screen) -> int:
    """How many entries are lost; on a terminal it is seen how far it is."""
    lost = 0
    for event in events:
        lost += _check(event)
        if event["event"] == "progress":
            screen.move("hashed", event["bytes"], event["of_bytes"])
        else:
            screen.say(_sentence(event))
    return lost


def _sentence(event: Document) -> str:
    match event["event"]:
        case "corrupt":
            where = ", ".join(event.get("repositories") or ["no repository"])
            return f"{event['kind']} {event['digest']} is damaged; it belongs to {where}"
        case "missing":
            where = ", ".join(event.get("repositories") or ["no repository"])
            return f"{event['kind']} {event['digest']} is not on the disk any more; it belongs to {where}"
        case "fetched":
            return f"{event['digest']} was fetched again"
        case "lost":
            return f"{event['digest']} could not be fetched again: {event['message']}"
        case "done":
            entries, hashed = format_count(event["entries"], "entry"), format_size(event["bytes"])
            damaged = f"{event['corrupt']} damaged, {event['fetched']} of them fetched again"
            lacking = f"{event.get('missing', 0)} missing, {event['fetched']} fetched again"
            found = damaged if event["corrupt"] else lacking if event.get("missing") else "all whole"
            return f"{entries}, {hashed} hashed in {format_duration(event['seconds'])}: {found}"
    return str(event)


def _check(event: Document) -> bool:
    if event["event"] == "failed":
        raise CommandError(str(event.get("message")))
    return bool(event["event"] == "lost")
