"""Global options: which configuration and which daemon a command is about.

Most commands want one word of the configuration, where the admin listener is. They get it without
the daemon's own reader: that takes long to import, and insists on files that only the daemon may read.
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
"""The configuration of the service: read where none is named, if it is there."""

ADMIN_ENDPOINT = "tcp:5001:interface=127.0.0.1"


@attrs.define(eq=False)
class GlobalOptions:
    """The global options."""

    named_config: Path | None = None
    named_admin: str | None = None

    @property
    def config(self) -> Path | None:
        """The configuration file; None where the built-in defaults are all there is."""
        if self.named_config is not None:
            return self.named_config
        return SERVICE_CONFIG if SERVICE_CONFIG.is_file() else None

    def read(self) -> str:
        """The text of the configuration file, empty where there is none.

        Raises:
            CommandError: It cannot be read.
        """
        try:
            return "" if self.config is None else self.config.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise CommandError(f"{self.config} cannot be read: {reason}") from None

    def admin(self) -> Address:
        """Where the daemon's admin listener is.

        Raises:
            CommandError: The configuration does not say so.
        """
        endpoint = self.named_admin or self._configured_endpoint()
        try:
            return Address.parse(endpoint)
        except ValueError as error:
            raise CommandError(
                f"{endpoint} does not say where the daemon answers; --admin: {error}"
            ) from None

    def _configured_endpoint(self) -> str:
        try:
            admin = tomllib.loads(self.read()).get("admin", {})
        except ValueError as error:
            raise CommandError(f"{self.config}: not TOML: {error}") from None
        endpoint = admin.get("endpoint", ADMIN_ENDPOINT) if isinstance(admin, dict) else None
        return endpoint if isinstance(endpoint, str) else ADMIN_ENDPOINT


def with_global_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the global options, which may stand before or after its name, and the settings."""
    config = click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=_note("named_config"),
        expose_value=False,
        help=f"The configuration. Default: {SERVICE_CONFIG}, if there is one.",
    )
    admin = click.option(
        "--admin",
        metavar="ENDPOINT|URL",
        callback=_note("named_admin"),
        expose_value=False,
        help="Where the daemon's admin listener is. Default: what the configuration says.",
    )
    return config(admin(click.make_pass_decorator(GlobalOptions, ensure=True)(command)))


def _note(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def note(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        settings = context.ensure_object(GlobalOptions)
        if value is not None:
            setattr(settings, name, value)

    return note
