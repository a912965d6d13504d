"""`mirrord rm`: removal from the mirror."""

import click

from mirrord.cli.formatting import format_size, print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.offline_daemon import connect


@click.command()
@click.argument("reference")
@click.option("--json", "is_json", is_flag=True, help="Print the result as JSON.")
@with_global_options
def rm(options: GlobalOptions, reference: str, *, is_json: bool) -> None:
    """Remove an image or a repository from the mirror.

    A REFERENCE without a tag or a digest is the whole repository. Blobs that other images use are kept, and
    running pulls complete. A mirrored image is downloaded again by its next pull; a hosted image is deleted
    for good, even where clients may not delete.
    """
    with connect(options) as daemon:
        result = daemon.fetch("DELETE", "/repositories", reference=reference)
    if is_json:
        print_json(result)
        return
    for removed in result.get("removed", []):
        click.echo(f"removed {removed.get('reference') or removed.get('digest')}")
    freed = result.get("bytes")
    click.echo("the next sweep will free the space" if freed is None else f"{format_size(freed)} freed")
