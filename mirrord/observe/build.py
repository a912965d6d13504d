"""The version of this installation."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def version() -> str:
    """Return the installed version, or `unknown` in a checkout that was never installed."""
    try:
        return installed_version("mirrord")
    except PackageNotFoundError:
        return "unknown"
