"""`mirrord gc`: a sweep, now."""

import click

from mirrord.cli import figures
from mirrord.cli.settings import Settings, located
from mirrord.cli.stand_in import reach


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "is_json", is_flag=True, help="Print what goes as JSON.")
@located
def gc(settings: Settings, *, dry_run: bool, is_json: bool) -> None:
    """Make room now, as the limits have it.

    The daemon does so by itself every `gc.interval`, and whenever a pull needs room.
    """
    with reach(settings) as daemon:
        sweep = daemon.post("/sweep", **({"dry_run": "1"} if dry_run else {}))
    if is_json:
        figures.say_json(sweep)
        return
    if dry_run:
        for victim in sweep.get("victims", []):
            unused, what = figures.span(victim["idle_seconds"]), figures.size(victim["bytes"])
            click.echo(f"{victim['kind']:8}  {victim['name']}  {what}, unused for {unused}")
    entries, freed = figures.count(sweep.get("entries", 0), "entry"), figures.size(sweep.get("bytes", 0))
    click.echo(f"{entries} {'would go' if dry_run else 'went'}, {freed}")
