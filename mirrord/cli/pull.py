"""`mirrord pull`: warm the cache."""

from collections.abc import Iterable

import click

from mirrord.cli import figures
from mirrord.cli.daemon import Daemon, Document
from mirrord.cli.screen import Screen, open_screen
from mirrord.cli.settings import Settings, located
from mirrord.cli.statuses import Failed, NotRunning


@click.command()
@click.argument("references", metavar="REFERENCE...", nargs=-1, required=True)
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Default: this host's own. `all`: every one.")
@click.option("--json", "is_json", is_flag=True, help="Print a line of JSON for each event.")
@located
def pull(settings: Settings, references: tuple[str, ...], platform: str | None, *, is_json: bool) -> None:
    """Fetch images before anybody asks for them.

    What is held already is not fetched again. An interrupt ends the watching, not the downloads that
    run: the daemon finishes those.
    """
    daemon = Daemon(settings.admin())
    failures = []
    for reference in references:
        query = {"reference": reference, **({"platform": platform} if platform else {})}
        events = daemon.events("/pull", **query)
        try:
            if is_json:
                _pass_on(events)
            else:
                with open_screen() as screen:
                    _show(reference, events, screen)
        except NotRunning:
            raise
        except Failed as error:
            click.echo(f"mirrord: {reference}: {error.message}", err=True)
            failures.append(reference)
    if failures:
        raise Failed(f"not pulled: {', '.join(failures)}")


def _pass_on(events: Iterable[Document]) -> None:
    for event in events:
        figures.say_json(event)
        _check(event)


def _show(reference: str, events: Iterable[Document], screen: Screen) -> None:
    """Each blob is a bar while it comes, and a line when it is there."""
    coming, there = set(), set()
    for event in events:
        _check(event)
        if event["event"] != "blob":
            screen.say(_sentence(reference, event))
            continue
        digest, written, size = event["digest"], event["written"], event["size"]
        if not event["is_held"] and written != size:
            coming.add(digest)
            screen.move(figures.short(digest), written, size)
        elif digest not in there:
            there.add(digest)
            screen.finish(figures.short(digest))
            how = "fetched" if digest in coming else "held already"
            screen.say(f"  blob     {figures.short(digest)}  {figures.size(size or 0)} {how}")


def _sentence(reference: str, event: Document) -> str:
    match event["event"]:
        case "resolved":
            return f"{reference} is {event['upstream']}/{event['repository']}@{event['digest']}"
        case "manifest":
            platform = event.get("platform") or ""
            return f"  manifest {figures.short(event['digest'])}  {platform}".rstrip()
        case "done":
            held, fetched = figures.size(event["bytes"]), figures.size(event["fetched_bytes"])
            return f"{reference}: all of its {held} is held; {fetched} fetched in {event['seconds']:.1f} s"
    return str(event)


def _check(event: Document) -> None:
    if event["event"] == "failed":
        raise Failed(str(event.get("message")))
