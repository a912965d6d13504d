"""Injections: strace lets system calls of a process fail, wait, or be its last.

The calls are those that only the store makes. `write` is not among them: Twisted wakes its reactor by it,
which no disk can make fail. A disk that is full for real is in tests/integration/test_crashes.py and
tests/unit/store/test_full_disk.py.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import attrs


@attrs.frozen
class Injection:
    """A tampering of strace: from the `first` of these calls on, each `step`th (0: only the first)."""

    calls: str
    action: str
    first: int
    step: int = 0

    @property
    def is_fatal(self) -> bool:
        """Whether it ends the daemon."""
        return self.action.startswith("signal=")

    def arguments(self) -> list[str]:
        """Return the options of strace."""
        when = f"{self.first}+{self.step}" if self.step else str(self.first)
        tampering = f"inject={self.calls}:{self.action}:when={when}"
        return ["-f", "-o", os.devnull, "-e", f"trace={self.calls}", "-e", tampering]

    def __str__(self) -> str:
        return f"{self.calls}:{self.action}:when={self.first}+{self.step}"


FAILURES = tuple(
    Injection(calls, action, first, step)
    for calls, action, first, step in (
        ("fsync", "error=EIO", 3, 7),
        ("fsync", "error=ENOSPC", 3, 7),
        ("fdatasync", "error=EIO", 5, 11),
        ("fdatasync", "error=ENOSPC", 5, 11),
        ("pwrite64", "error=EIO", 20, 50),
        ("pwrite64", "error=ENOSPC", 20, 50),
        ("rename,renameat,renameat2", "error=EIO", 3, 5),
        ("rename,renameat,renameat2", "error=ENOSPC", 3, 5),
        ("unlink,unlinkat", "error=EIO", 1, 2),
        ("mkdir,mkdirat", "error=ENOSPC", 2, 3),
        ("ftruncate", "error=EIO", 1, 3),
        ("fsync,fdatasync", "delay_enter=200000", 1, 1),
    )
)
"""Calls that fail or wait, again and again."""

KILLS = tuple(
    Injection(calls, "signal=KILL", first)
    for calls, first in (
        ("rename,renameat,renameat2", 1),
        ("rename,renameat,renameat2", 12),
        ("fsync", 5),
        ("fdatasync", 9),
        ("pwrite64", 33),
        ("unlink,unlinkat", 2),
    )
)
"""Calls that are the last of the daemon."""


def problem() -> str | None:
    """Return why this machine cannot inject faults, or None."""
    if shutil.which("strace") is None:
        return "there is no strace"
    probe = ["strace", "-o", os.devnull, "-e", "inject=fsync:error=EIO", "true"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        return "strace may not trace here"
    return None


@contextmanager
def injected(pid: int, injection: Injection) -> Iterator[None]:
    """Tamper with the calls of a process while the block runs."""
    tracer = subprocess.Popen(
        ["strace", "-p", str(pid), *injection.arguments()],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Control-C is for us, who then end it
    )
    assert tracer.stderr is not None
    with tracer.stderr:
        try:
            line = tracer.stderr.readline()
            assert "attached" in line, line
            yield
        finally:
            tracer.terminate()
            tracer.wait()
