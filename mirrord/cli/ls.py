"""`mirrord ls`: what is held."""

import click

from mirrord.cli import figures
from mirrord.cli.daemon import Document
from mirrord.cli.settings import Settings, located
from mirrord.cli.stand_in import reach
from mirrord.cli.statuses import NotHeld
from mirrord.oci.names import HOSTED


@click.command()
@click.argument("pattern", default="*")
@click.option("--json", "is_json", is_flag=True, help="Print a line of JSON for each repository.")
@located
def ls(settings: Settings, pattern: str, *, is_json: bool) -> None:
    """List the repositories and tags that are held.

    PATTERN is a shell pattern for the names of repositories, as in `mirrord ls 'ghcr.io/*'`; `hosted/*` are
    those that were pushed.
    """
    is_empty = True
    with reach(settings) as daemon:
        for repository in daemon.stream("GET", "/repositories", pattern=pattern):
            is_empty = False
            if is_json:
                figures.say_json(repository)
            else:
                _say(repository)
    if is_empty and pattern != "*":
        raise NotHeld(f"no repository that matches {pattern} is held")


def _say(repository: Document) -> None:
    """A line for the repository, and one for each tag."""
    blobs, used = repository.get("blobs", 0), figures.ago(repository.get("last_used"))
    name, held = click.style(repository.get("name"), bold=True), figures.size(repository.get("bytes", 0))
    if repository.get("upstream") == HOSTED:
        click.echo(f"{name}  hosted, {held} in {figures.count(blobs, 'blob')}, pushed {used}")
    else:
        click.echo(f"{name}  {held} in {figures.count(blobs, 'blob')}, used {used}")
    tags = repository.get("tags", [])
    width = max((len(tag.get("tag", "")) for tag in tags), default=0)
    for tag in tags:
        digest = figures.short(tag.get("digest"))
        click.echo(f"  {tag.get('tag', ''):{width}}  {digest:12}  {figures.freshness(tag)}")
