"""`mirrord verify`: whether what is held is what it should be."""

from collections.abc import Iterable

import click

from mirrord.cli import figures
from mirrord.cli.daemon import Document
from mirrord.cli.screen import Screen, open_screen
from mirrord.cli.settings import Settings, located
from mirrord.cli.stand_in import reach
from mirrord.cli.statuses import Failed


@click.command()
@click.option("--json", "is_json", is_flag=True, help="Print a line of JSON for each event.")
@located
def verify(settings: Settings, *, is_json: bool) -> None:
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
        raise Failed(f"{figures.count(lost, 'entry')} could not be fetched again")


def _pass_on(events: Iterable[Document]) -> int:
    """How many entries are lost; every event goes out as it came."""
    lost = 0
    for event in events:
        figures.say_json(event)
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
            entries, hashed = figures.count(event["entries"], "entry"), figures.size(event["bytes"])
            damaged = f"{event['corrupt']} damaged, {event['fetched']} of them fetched again"
            lacking = f"{event.get('missing', 0)} missing, {event['fetched']} fetched again"
            found = damaged if event["corrupt"] else lacking if event.get("missing") else "all whole"
            return f"{entries}, {hashed} hashed in {figures.span(event['seconds'])}: {found}"
    return str(event)


def _check(event: Document) -> bool:
    if event["event"] == "failed":
        raise Failed(str(event.get("message")))
    return bool(event["event"] == "lost")
