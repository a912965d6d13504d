"""Global options: the configuration and the daemon that a command refers to.

Most commands need one key of the configuration, the admin listener's endpoint. They read it without the
daemon's own parser, which takes long to import and requires files that only the daemon may read.
"""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click

from mirrord.cli.addresses import Address
from mirrord.cli.exit_status import CommandError

SERVICE_CONFIG = Path("/etc/mirrord/mirrord.toml")
"""The configuration of the service, used if it exists and no other is given."""

ADMIN_ENDPOINT = "tcp:5001:interface=127.0.0.1"


@attrs.define(eq=False)
class GlobalOptions:
    """The values of `--config` and `--admin`."""

    config_option: Path | None = None
    admin_option: str | None = None

    @property
    def config(self) -> Path | None:
        """The configuration file; None if only the built-in defaults apply."""
        if self.config_option is not None:
            return self.config_option
        return SERVICE_CONFIG if SERVICE_CONFIG.is_file() else None

    def read(self) -> str:
        """Return the text of the configuration file; empty if there is none.

        Raises:
            CommandError: The file cannot be read.
        """
        try:
            return "" if self.config is None else self.config.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise CommandError(f"cannot read {self.config}: {reason}") from None

    def admin(self) -> Address:
        """Return the address of the daemon's admin listener.

        Raises:
            CommandError: The endpoint has no address to connect to.
        """
        endpoint = self.admin_option or self._configured_endpoint()
        try:
            return Address.parse(endpoint)
        except ValueError as error:
            raise CommandError(f"cannot connect to the endpoint {endpoint}; use --admin: {error}") from None

    def _configured_endpoint(self) -> str:
        try:
            admin = tomllib.loads(self.read()).get("admin", {})
        except ValueError as error:
            raise CommandError(f"{self.config}: invalid TOML: {error}") from None
        endpoint = admin.get("endpoint", ADMIN_ENDPOINT) if isinstance(admin, dict) else None
        return endpoint if isinstance(endpoint, str) else ADMIN_ENDPOINT


def with_global_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the global options to a command, before or after its name, and pass their values to it."""
    config = click.option(
        "--config",
        "config_option",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=_store,
        expose_value=False,
        help=f"Configuration file. Default: {SERVICE_CONFIG}, if it exists.",
    )
    admin = click.option(
        "--admin",
        "admin_option",
        metavar="ENDPOINT|URL",
        callback=_store,
        expose_value=False,
        help="The daemon's admin listener. Default: as configured.",
    )
    return config(admin(click.make_pass_decorator(GlobalOptions, ensure=True)(command)))


def _store(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None:
        setattr(context.ensure_object(GlobalOptions), str(option.name), value)
