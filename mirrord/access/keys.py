"""The key that signs tokens, in a file of its own.

It is generated where there is none, and again where the file is damaged. Only tokens that are valid for five
minutes are lost with it, so it is written without fsync.
"""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

KEY_NAME = "token.key"

_MODE = 0o600


def open_key(folder: Path) -> Ed25519PrivateKey:
    """Read the key in this folder, or generate and store one.

    Raises:
        OSError: The key can be neither read nor written.
    """
    file = folder / KEY_NAME
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except FileNotFoundError:
        return _generate(file)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return _generate(file)
    return key if isinstance(key, Ed25519PrivateKey) else _generate(file)


def _generate(file: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = file.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as opened:
        opened.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    scratch.replace(file)
    return key
