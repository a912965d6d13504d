"""Placing: a recipe's file comes to stand on this host, and nothing of the operator's own is lost."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mirrord.cli.exit_status import CommandError
from mirrord.client_config import ClientFile

_MODE = 0o644


def place(file: ClientFile, root: Path) -> str:
    """Write a file below `root`; a line that says what was done.

    A JSON file keeps its other keys. What stood there and differs is kept beside it, as `.bak`. To place
    the same file again changes nothing.

    Raises:
        CommandError: It cannot be written, or what stands there cannot be joined with it.
    """
    path = _below(root, file.path)
    try:
        old = path.read_text("utf-8") if path.exists() else None
        new = _join(old, file, path)
        if old == new:
            return f"{path} is right already"
        kept = "" if old is None else f"; what it said before is in {_keep(path).name}"
        _write(path, new)
    except PermissionError:
        raise CommandError(f"{path} cannot be written; try again with sudo") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be written: {error}") from None
    return f"{path} is written{kept}"


def _below(root: Path, path: str) -> Path:
    """The file that the path means, links followed, for a link is to be kept."""
    base = root.resolve()
    found = (base / path.lstrip("/")).resolve()
    if not found.is_relative_to(base):
        raise CommandError(f"{path} leads out of {root}")
    return found


def _join(old: str | None, file: ClientFile, path: Path) -> str:
    """What has to stand there: of a JSON file our words go to the front of its own lists."""
    if not file.path.endswith(".json") or old is None or not old.strip():
        return file.text
    document, ours = _object(old, path), _object(file.text, path)
    for key, words in ours.items():
        present = document.get(key, [])
        if not isinstance(present, list):
            raise CommandError(f"{path}: {key} is no list; it stays as it is")
        missing = [word for word in words if word not in present]
        if missing:
            document[key] = missing + present
    return (
        old if document == _object(old, path) else json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    )


def _object(text: str, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is not JSON and stays as it is: {error}") from None
    if not isinstance(document, dict):
        raise CommandError(f"{path} holds no JSON object and stays as it is")
    return document


def _keep(path: Path) -> Path:
    """Copy what stands there to the first name that is free."""
    number = 1
    kept = path.with_name(f"{path.name}.bak")
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.bak{number}")
    shutil.copy2(path, kept)
    return kept


def _write(path: Path, text: str) -> None:
    """All of it or nothing: a client may be reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o7777 if path.exists() else _MODE
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as written:
            written.write(text)
            written.flush()
            os.fsync(fd)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
