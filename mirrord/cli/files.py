"""Atomic replacement of files."""

import os
import pwd
import tempfile
from pathlib import Path

_FOLDER_MODE = 0o755


def replace_file(path: Path, content: bytes, *, mode: int, owner: pwd.struct_passwd | None = None) -> None:
    """Write a file, and its folders if needed; readers see the old content or all of the new.

    The content is at no time readable by more users than `mode` allows.
    """
    path.parent.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(fd, mode)
            if owner is not None:
                os.fchown(fd, owner.pw_uid, owner.pw_gid)
            os.fsync(fd)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
