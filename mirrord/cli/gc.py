"""`mirrord gc`: a garbage collection sweep."""

import click

from mirrord.cli.admin_client import Document
from mirrord.cli.formatting import format_count, format_duration, format_size, print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.offline_daemon import connect


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as JSON.")
@with_global_options
def gc(options: GlobalOptions, *, dry_run: bool, is_json: bool) -> None:
    """Run garbage collection now.

    Evicts cached content that exceeds the limits, and deletes hosted images as the retention rules require.
    The daemon does this every `gc.interval`, and evicts whenever a download needs space.
    """
    with connect(options) as daemon:
        sweep = daemon.fetch("POST", "/sweep", **({"dry_run": "1"} if dry_run else {}))
    if is_json:
        print_json(sweep)
        return
    if dry_run:
        for victim in sweep.get("victims", []):
            unused, size = format_duration(victim["idle_seconds"]), format_size(victim["bytes"])
            click.echo(f"{victim['kind']:8}  {victim['name']}  {size}, unused for {unused}")
    _print_hosted(sweep.get("hosted", {}), "would delete" if dry_run else "deleted")
    entries, freed = format_count(sweep.get("entries", 0), "entry"), format_size(sweep.get("bytes", 0))
    click.echo(f"{'would evict' if dry_run else 'evicted'} {entries}, {freed}")


def _print_hosted(hosted: Document, verb: str) -> None:
    for victim in hosted.get("victims", []):
        separator = ":" if victim["kind"] == "tag" else "@"
        name = f"{victim['repository']}{separator}{victim['name']}"
        click.echo(f"{victim['kind']:8}  {name}  {victim['reason']}")
    counts = [
        format_count(hosted[f"{noun}s"], noun)
        for noun in ("tag", "manifest", "blob", "upload")
        if hosted.get(f"{noun}s")
    ]
    if counts:
        click.echo(f"{verb} {', '.join(counts)} of hosted repositories")
    if hosted.get("entries"):
        entries = format_count(hosted["entries"], "unreferenced hosted entry")
        click.echo(f"{verb} {entries}, {format_size(hosted['bytes'])}")
