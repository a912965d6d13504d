"""The end of the process with a failure: after the drain, or without it.

twistd ends with status 0 whenever its reactor was stopped. And a daemon does not end by itself while a system
call hangs in one of its threads.
"""

import atexit
import os
import sys
from collections.abc import Callable
from threading import Thread, Timer

from twisted.logger import Logger

STATUS = 1

_LOG_SECONDS = 1.0
"""The log may be on the disk that hangs."""

_log = Logger()


def exit_after(seconds: float, find_problem: Callable[[], str | None]) -> None:
    """End the process with `STATUS` if it has not ended in so many seconds, and log what was in the way.

    This needs neither the reactor nor the end of any thread. All that is lost is what `kill -9` would lose.
    """

    def report() -> None:
        problem = find_problem() or "something does not end"
        _log.error("exiting before everything is stopped: {problem}", problem=problem)
        _flush()

    def leave() -> None:
        reporting = Thread(target=report, daemon=True)
        reporting.start()
        reporting.join(_LOG_SECONDS)
        os._exit(STATUS)

    timer = Timer(seconds, leave)
    timer.daemon = True
    timer.start()


def fail_at_exit() -> None:
    """End the process with `STATUS` when twistd has stopped everything."""

    def leave() -> None:
        _flush()
        os._exit(STATUS)

    atexit.register(leave)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
