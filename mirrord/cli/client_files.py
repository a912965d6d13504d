"""Installation of a client's configuration files on this host, without loss of existing settings."""

import json
import shutil
from pathlib import Path
from typing import Any

from mirrord.cli.exit_status import CommandError
from mirrord.cli.files import replace_file
from mirrord.client_config import ClientFile

_MODE = 0o644


def install_client_file(file: ClientFile, root: Path) -> str:
    """Write a file below `root` and return a line that reports the change.

    A JSON file keeps its other keys. Previous content that differs is kept beside the file as `.bak`.
    Installing the same file again changes nothing.

    Raises:
        CommandError: The file cannot be written, or its present content cannot be merged.
    """
    path = _resolve(root, file.path)
    try:
        old = path.read_text("utf-8") if path.exists() else None
        new = _merge(old, file, path)
        if old == new:
            return f"{path} is up to date"
        saved = "" if old is None else f"; the previous version is {_back_up(path).name}"
        mode = path.stat().st_mode & 0o7777 if path.exists() else _MODE
        replace_file(path, new.encode("utf-8"), mode=mode)
    except PermissionError:
        raise CommandError(f"cannot write {path}: permission denied; try again with sudo") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot write {path}: {error}") from None
    return f"wrote {path}{saved}"


def _resolve(root: Path, path: str) -> Path:
    """Return the file below `root`, with links resolved: they are kept, and their targets written."""
    base = root.resolve()
    target = (base / path.lstrip("/")).resolve()
    if not target.is_relative_to(base):
        raise CommandError(f"{path} is a link to a file outside of {root}")
    return target


def _merge(old: str | None, file: ClientFile, path: Path) -> str:
    """Return the new content; in a JSON file, our entries are prepended to its lists."""
    if not file.path.endswith(".json") or old is None or not old.strip():
        return file.text
    document, ours = _parse(old, path), _parse(file.text, path)
    for key, entries in ours.items():
        present = document.get(key, [])
        if not isinstance(present, list):
            raise CommandError(f"cannot change {path}: {key} is not a list")
        missing = [entry for entry in entries if entry not in present]
        if missing:
            document[key] = missing + present
    if document == _parse(old, path):
        return old
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"cannot change {path}: invalid JSON: {error}") from None
    if not isinstance(document, dict):
        raise CommandError(f"cannot change {path}: not a JSON object")
    return document


def _back_up(path: Path) -> Path:
    """Copy a file to the first unused name."""
    number = 1
    copy = path.with_name(f"{path.name}.bak")
    while copy.exists():
        number += 1
        copy = path.with_name(f"{path.name}.bak{number}")
    shutil.copy2(path, copy)
    return copy
