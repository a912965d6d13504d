"""Files of users and the bcrypt hashes of their passwords, as written by `htpasswd -B`."""

import re
from pathlib import Path

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
_MAX_COST = 16
"""The highest cost; each step doubles the time, and with this one a check takes seconds."""

_MAX_FILE_BYTES = 4 * 1024 * 1024


def read_users(file: Path) -> dict[str, bytes]:
    """Read the hash of every user in the file.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is malformed; the message names the line or the user, and no hash.
    """
    with file.open("rb") as opened:
        content = opened.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError("too large for a file of users")
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    users: dict[str, bytes] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        name, hashed = _parse_entry(number, line)
        if name in users:
            raise ValueError(f"{name} is listed twice")
        users[name] = hashed
    return users


def _parse_entry(number: int, line: str) -> tuple[str, bytes]:
    name, colon, hashed = line.partition(":")
    if not colon or not name or not name.isprintable():
        raise ValueError(f"line {number} is not USER:HASH")
    match = _BCRYPT.fullmatch(hashed)
    if match is None:
        raise ValueError(f"the password of {name} is not hashed by bcrypt; set it with htpasswd -B")
    if int(match[1]) > _MAX_COST:
        raise ValueError(f"the hash of {name} takes too long to check; set it with htpasswd -B -C 10")
    return name, hashed.encode("ascii")
