"""`mirrord ls`: the stored repositories."""

import click

from mirrord.cli.admin_client import Document, repository_key
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
from mirrord.cli.offline_daemon import connect


@click.command()
@click.argument("pattern", default="*")
@click.option("--json", "is_json", is_flag=True, help="Print one line of JSON per repository.")
@with_global_options
def ls(options: GlobalOptions, pattern: str, *, is_json: bool) -> None:
    """List stored repositories and tags.

    PATTERN is a shell pattern for repository names, as in `mirrord ls 'ghcr.io/*'`; `hosted/*` matches all
    hosted repositories.
    """
    is_empty = True
    with connect(options) as daemon:
        for repository in daemon.stream("GET", "/repositories", pattern=pattern):
            is_empty = False
            if is_json:
                print_json(repository)
            else:
                _print(repository)
    if is_empty and pattern != "*":
        raise NotFound(f"no stored repository matches {pattern}")


def _print(repository: Document) -> None:
    blobs, used = format_count(repository.get("blobs", 0), "blob"), format_age(repository.get("last_used"))
    name, size = click.style(repository.get("name"), bold=True), format_size(repository.get("bytes", 0))
    if repository_key(repository).is_hosted:
        click.echo(f"{name}  hosted, {size} in {blobs}, pushed {used}")
    else:
        click.echo(f"{name}  {size} in {blobs}, used {used}")
    tags = repository.get("tags", [])
    width = max((len(tag.get("tag", "")) for tag in tags), default=0)
    for tag in tags:
        digest = short_digest(tag.get("digest"))
        click.echo(f"  {tag.get('tag', ''):{width}}  {digest:12}  {format_freshness(tag)}")
