"""The daemon's complete configuration, for commands that need more of it than an address."""

import os
from collections.abc import Mapping

from mirrord.cli.exit_status import CommandError
from mirrord.cli.global_options import SERVICE_CONFIG, GlobalOptions
from mirrord.config.config import Config, ConfigError, parse_config

_SERVICE_CACHE = "/var/cache/mirrord"


def read_config(options: GlobalOptions) -> Config:
    """Return the configuration that the daemon would use, without the passwords, which may be unreadable.

    Raises:
        CommandError: The configuration is invalid; the message has one line per error.
    """
    try:
        return parse_config(options.read(), environment=service_environment(options), reads_passwords=False)
    except ConfigError as error:
        raise CommandError("\n".join(error.lines)) from None


def service_environment(options: GlobalOptions) -> Mapping[str, str]:
    """Return the environment for the configuration; for the service it includes its cache directory."""
    if options.config != SERVICE_CONFIG:
        return os.environ
    return {"CACHE_DIRECTORY": _SERVICE_CACHE, **os.environ}
