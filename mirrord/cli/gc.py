"""`mirrord gc`: a sweep, now."""

import click

from mirrord.cli.admin_client import Document
from mirrord.cli.formatting import format_count, format_duration, format_size, print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.offline_daemon import reach


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "is_json", is_flag=True, help="Print what goes as JSON.")
@with_global_options
def gc(settings: GlobalOptions, *, dry_run: bool, is_json: bool) -> None:
    """Make room now, as the limits and keep rules have it.

    The daemon does so by itself every `gc.interval`, and whenever a pull needs room.
    """
    with reach(settings) as daemon:
        sweep = daemon.post("/sweep", **({"dry_run": "1"} if dry_run else {}))
    if is_json:
        print_json(sweep)
        return
    if dry_run:
        for victim in sweep.get("victims", []):
            unused, what = format_duration(victim["idle_seconds"]), format_size(victim["bytes"])
            click.echo(f"{victim['kind']:8}  {victim['name']}  {what}, unused for {unused}")
    would = "would go" if dry_run else "went"
    _say_hosted(sweep.get("hosted", {}), would)
    entries, freed = format_count(sweep.get("entries", 0), "entry"), format_size(sweep.get("bytes", 0))
    click.echo(f"{entries} {would}, {freed}")


def _say_hosted(hosted: Document, would: str) -> None:
    """What goes of hosted repositories; nothing, if nothing does."""
    for victim in hosted.get("victims", []):
        mark = ":" if victim["kind"] == "tag" else "@"
        name = f"{victim['repository']}{mark}{victim['name']}"
        click.echo(f"{victim['kind']:8}  {name}  {victim['reason']}")
    counts = [
        format_count(hosted[f"{noun}s"], noun)
        for noun in ("tag", "manifest", "blob", "upload")
        if hosted.get(f"{noun}s")
    ]
    if counts:
        click.echo(f"{', '.join(counts)} of hosted repositories {would}")
    if hosted.get("entries"):
        entries = format_count(hosted["entries"], "entry")
        click.echo(f"{entries} that no repository holds {would}, {format_size(hosted['bytes'])}")
