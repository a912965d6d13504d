"""`mirrord rm`: forget something."""

import click

from mirrord.cli.formatting import format_size, print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.offline_daemon import reach


@click.command()
@click.argument("reference")
@click.option("--json", "is_json", is_flag=True, help="Print what was removed as JSON.")
@with_global_options
def rm(settings: GlobalOptions, reference: str, *, is_json: bool) -> None:
    """Take out a repository, a tag or a digest.

    Without a tag or a digest, REFERENCE is all of the repository. Blobs that another image needs stay;
    what a client is pulling now goes when it has it. The next pull fetches what was removed again: but
    not of a hosted repository, from which it is gone for good, whatever clients may do there.
    """
    with reach(settings) as daemon:
        answer = daemon.delete("/repositories", reference=reference)
    if is_json:
        print_json(answer)
        return
    for removed in answer.get("removed", []):
        click.echo(f"removed {removed.get('reference') or removed.get('digest')}")
    freed = answer.get("bytes")
    click.echo("the next sweep frees the room" if freed is None else f"{format_size(freed)} freed")
