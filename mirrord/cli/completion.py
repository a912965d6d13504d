"""`mirrord completion`: a shell completion script."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell completion script.

    bash: eval "$(mirrord completion bash)" in ~/.bashrc

    zsh: eval "$(mirrord completion zsh)" in ~/.zshrc

    fish: mirrord completion fish > ~/.config/fish/completions/mirrord.fish
    """
    complete = _SHELLS[shell](context.find_root().command, {}, "mirrord", "_MIRRORD_COMPLETE")
    click.echo(complete.source())
