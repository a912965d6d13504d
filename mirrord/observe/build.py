"""Build: which mirrord this is."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def version() -> str:
    """The version that is installed; `unknown` in a checkout that never was."""
    try:
        return installed_version("mirrord")
    except PackageNotFoundError:
        return "unknown"
