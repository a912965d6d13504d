"""Global options: the configuration and the daemon that a command refers to.

Most commands need a key or two of the configuration: where the daemon listens for them. They read these
without the daemon's own parser, which takes long to import and requires files that only the daemon may read.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import click

from mirrord.cli.addresses import Address
from mirrord.cli.exit_status import CommandError
from mirrord.config.addresses import EndpointDescription
from mirrord.config.folders import command_sockets, store_folder

SERVICE_CONFIG = Path("/etc/mirrord/mirrord.toml")
"""The configuration of the service, used if it exists and no other is given."""

ADMIN_ENDPOINT = "tcp:5001:interface=127.0.0.1"

_SERVICE_FOLDERS = {
    "CACHE_DIRECTORY": "/var/cache/mirrord",
    "STATE_DIRECTORY": "/var/lib/mirrord",
    "RUNTIME_DIRECTORY": "/run/mirrord",
}
"""The folders that systemd assigns to the service."""


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

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment for the configuration; for the service it includes its folders."""
        return {**_SERVICE_FOLDERS, **os.environ} if self.config == SERVICE_CONFIG else os.environ

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
        """Return the address of the daemon's admin listener: status and health, which need no permission.

        Raises:
            CommandError: The endpoint has no address to connect to.
        """
        endpoint = self.admin_option or self._key("admin", "endpoint") or ADMIN_ENDPOINT
        try:
            return Address.parse(endpoint)
        except ValueError as error:
            raise CommandError(f"cannot connect to the endpoint {endpoint}; use --admin: {error}") from None

    def commands(self) -> Address:
        """Return the address at which the daemon accepts commands.

        Raises:
            CommandError: It is unknown.
        """
        if self.admin_option is not None:
            return self.admin()
        if (socket := self._key("admin", "socket")) is not None:
            return Address.of_socket(Path(socket))
        endpoint = EndpointDescription.parse(self._key("admin", "endpoint") or "")
        if endpoint.socket_path is not None:
            return Address.of_socket(endpoint.socket_path)
        path = self._key("store", "path")
        store = store_folder(self.environment) if path is None else Path(path)
        if store is None:
            raise CommandError("the folder of the store is unknown; use --admin SOCKET")
        paths = list(command_sockets(self.environment, store))
        return Address.of_socket(next(filter(_may_exist, paths), paths[0]))

    def _key(self, table: str, key: str) -> str | None:
        """Return a string of the configuration; None if it has none there."""
        try:
            document = tomllib.loads(self.read()).get(table)
        except ValueError as error:
            raise CommandError(f"{self.config}: invalid TOML: {error}") from None
        value = document.get(key) if isinstance(document, dict) else None
        return value if isinstance(value, str) else None


def _may_exist(path: Path) -> bool:
    """Return whether a path exists, or is in a folder that we may not look into."""
    try:
        path.lstat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


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
        metavar="SOCKET|ENDPOINT|URL",
        callback=_store,
        expose_value=False,
        help="The daemon's socket, or admin listener. Default: as configured.",
    )
    return config(admin(click.make_pass_decorator(GlobalOptions, ensure=True)(command)))


def _store(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None:
        setattr(context.ensure_object(GlobalOptions), str(option.name), value)
