"""`mirrord pull`: warm the cache."""

from collections.abc import Iterable

import click

from mirrord.cli.admin_client import AdminClient, Document
from mirrord.cli.exit_status import CommandError, DaemonUnreachable
from mirrord.cli.formatting import format_size, print_json, short_digest
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.progress import Screen, open_screen


@click.command()
@click.argument("references", metavar="REFERENCE...", nargs=-1, required=True)
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Default: this host's own. `all`: every one.")
@click.option("--json", "is_json", is_flag=True, help="Print a line of JSON for each event.")
@with_global_options
def pull(
    settings: GlobalOptions, references: tuple[str, ...], platform: str | None, *, is_json: bool
) -> None:
    """Fetch images before anybody asks for them.

    What is held already is not fetched again. An interrupt ends the watching, not the downloads that
    run: the daemon finishes those.
    """
    daemon = AdminClient(settings.admin())
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
        except DaemonUnreachable:
            raise
        except CommandError as error:
            click.echo(f"mirrord: {reference}: {error.message}", err=True)
            failures.append(reference)
    if failures:
        raise CommandError(f"not pulled: {', '.join(failures)}")


def _pass_on(events: Iterable[Document]) -> None:
    for event in events:
        print_json(event)
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
            screen.move(short_digest(digest), written, size)
        elif digest not in there:
            there.add(digest)
            screen.finish(short_digest(digest))
            how = "fetched" if digest in coming else "held already"
            screen.say(f"  blob     {short_digest(digest)}  {format_size(size or 0)} {how}")


def _sentence(reference: str, event: Document) -> str:
    match event["event"]:
        case "resolved":
            return f"{reference} is {event['upstream']}/{event['repository']}@{event['digest']}"
        case "manifest":
            platform = event.get("platform") or ""
            return f"  manifest {short_digest(event['digest'])}  {platform}".rstrip()
        case "done":
            held, fetched = format_size(event["bytes"]), format_size(event["fetched_bytes"])
            return f"{reference}: all of its {held} is held; {fetched} fetched in {event['seconds']:.1f} s"
    return str(event)


def _check(event: Document) -> None:
    if event["event"] == "failed":
        raise CommandError(str(event.get("message")))
