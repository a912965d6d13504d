"""`mirrord ls`: what is held."""

import click

from mirrord.cli.admin_client import Document
from mirrord.cli.exit_status import NotFound
from mirrord.cli.formatting import (
    format_age,
    format_count,
    format_freshness,
    format_size,
    print_json,
    short_digest,
)
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.offline_daemon import reach
from mirrord.oci.names import HOSTED


@click.command()
@click.argument("pattern", default="*")
@click.option("--json", "is_json", is_flag=True, help="Print a line of JSON for each repository.")
@with_global_options
def ls(settings: GlobalOptions, pattern: str, *, is_json: bool) -> None:
    """List the repositories and tags that are held.

    PATTERN is a shell pattern for the names of repositories, as in `mirrord ls 'ghcr.io/*'`; `hosted/*` are
    those that were pushed.
    """
    is_empty = True
    with reach(settings) as daemon:
        for repository in daemon.stream("GET", "/repositories", pattern=pattern):
            is_empty = False
            if is_json:
                print_json(repository)
            else:
                _say(repository)
    if is_empty and pattern != "*":
        raise NotFound(f"no repository that matches {pattern} is held")


def _say(repository: Document) -> None:
    """A line for the repository, and one for each tag."""
    blobs, used = repository.get("blobs", 0), format_age(repository.get("last_used"))
    name, held = click.style(repository.get("name"), bold=True), format_size(repository.get("bytes", 0))
    if repository.get("upstream") == HOSTED:
        click.echo(f"{name}  hosted, {held} in {format_count(blobs, 'blob')}, pushed {used}")
    else:
        click.echo(f"{name}  {held} in {format_count(blobs, 'blob')}, used {used}")
    tags = repository.get("tags", [])
    width = max((len(tag.get("tag", "")) for tag in tags), default=0)
    for tag in tags:
        digest = short_digest(tag.get("digest"))
        click.echo(f"  {tag.get('tag', ''):{width}}  {digest:12}  {format_freshness(tag)}")
