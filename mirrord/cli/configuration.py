"""The configuration as the daemon has it, for the commands that need more of it than an address."""

import os
from collections.abc import Mapping

from mirrord.cli.exit_status import CommandError
from mirrord.cli.global_options import SERVICE_CONFIG, GlobalOptions
from mirrord.config.config import Config, ConfigError, parse_config

_SERVICE_CACHE = "/var/cache/mirrord"


def read_config(settings: GlobalOptions) -> Config:
    """The configuration that the daemon would run with, without its passwords: they may be for it alone.

    Raises:
        CommandError: It cannot be used; the message has a line for each reason.
    """
    try:
        return parse_config(settings.read(), environment=environment_of(settings), reads_passwords=False)
    except ConfigError as error:
        raise CommandError("\n         ".join(error.lines)) from None


def environment_of(settings: GlobalOptions) -> Mapping[str, str]:
    """The environment in which the configuration is meant: that of the service has a cache folder."""
    if settings.config != SERVICE_CONFIG:
        return os.environ
    return {"CACHE_DIRECTORY": _SERVICE_CACHE, **os.environ}
