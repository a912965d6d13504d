"""The daemon's complete configuration, for commands that need more of it than an address."""

from mirrord.cli.exit_status import CommandError
from mirrord.cli.global_options import GlobalOptions
from mirrord.config.config import Config, ConfigError, parse_config


def read_config(options: GlobalOptions) -> Config:
    """Return the configuration that the daemon would use, without the passwords, which may be unreadable.

    Raises:
        CommandError: The configuration is invalid; the message has one line per error.
    """
    try:
        return parse_config(options.read(), environment=options.environment, reads_passwords=False)
    except ConfigError as error:
        raise CommandError("\n".join(error.lines)) from None
