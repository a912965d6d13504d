"""`mirrord pull`: images downloaded ahead of time."""

from collections.abc import Iterable

import click

from mirrord.cli.admin_client import AdminClient, Document
from mirrord.cli.exit_status import CommandError, DaemonUnreachable
from mirrord.cli.formatting import format_size, print_json, short_digest
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.progress import ProgressDisplay


@click.command()
@click.argument("references", metavar="REFERENCE...", nargs=-1, required=True)
@click.option(
    "--platform",
    metavar="OS/ARCH[/VARIANT]",
    help="Platform to pull, or `all`. Default: the platform of the daemon's host.",
)
@click.option("--json", "is_json", is_flag=True, help="Print one line of JSON per event.")
@with_global_options
def pull(options: GlobalOptions, references: tuple[str, ...], platform: str | None, *, is_json: bool) -> None:
    """Download images ahead of time.

    Cached content is not downloaded again. An interrupt does not stop downloads that have started: the
    daemon completes them.
    """
    daemon = AdminClient(options.commands())
    failed = []
    for reference in references:
        query = {"reference": reference, **({"platform": platform} if platform else {})}
        events = daemon.events("/pull", **query)
        try:
            if is_json:
                _print_json(events)
            else:
                with ProgressDisplay() as display:
                    _show(reference, events, display)
        except DaemonUnreachable:
            raise
        except CommandError as error:
            click.echo(f"mirrord: {reference}: {error.message}", err=True)
            failed.append(reference)
    if failed:
        raise CommandError(f"failed to pull {', '.join(failed)}")


def _print_json(events: Iterable[Document]) -> None:
    for event in events:
        print_json(event)
        _check(event)


def _show(reference: str, events: Iterable[Document], display: ProgressDisplay) -> None:
    """Show each blob as a bar while it is downloaded, and as a line when it is complete."""
    downloading, complete = set(), set()
    for event in events:
        _check(event)
        if event["event"] != "blob":
            display.print(_format(reference, event))
            continue
        digest, written, size = event["digest"], event["written"], event["size"]
        if not event["is_held"] and written != size:
            downloading.add(digest)
            display.update(short_digest(digest), written, size)
        elif digest not in complete:
            complete.add(digest)
            display.remove(short_digest(digest))
            origin = "downloaded" if digest in downloading else "already cached"
            display.print(f"  blob     {short_digest(digest)}  {format_size(size or 0)} {origin}")


def _format(reference: str, event: Document) -> str:
    match event["event"]:
        case "resolved":
            return f"{reference} resolves to {event['upstream']}/{event['repository']}@{event['digest']}"
        case "manifest":
            platform = event.get("platform") or ""
            return f"  manifest {short_digest(event['digest'])}  {platform}".rstrip()
        case "done":
            size, downloaded = format_size(event["bytes"]), format_size(event["fetched_bytes"])
            return f"{reference}: {size} cached, {downloaded} of it downloaded in {event['seconds']:.1f} s"
    return str(event)


def _check(event: Document) -> None:
    if event["event"] == "failed":
        raise CommandError(str(event.get("message")))
