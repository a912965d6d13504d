"""Exponential back-off with jitter, so that what failed together is not retried together."""

from collections.abc import Callable


def backoff_seconds(attempt: int, *, first: float, longest: float, random: Callable[[], float]) -> float:
    """Return the wait after the failure of attempt number `attempt`, counted from 1.

    It starts at `first` and doubles up to `longest`, before jitter. `random` returns numbers from 0 to 1.
    """
    return jitter(min(first * 2.0 ** min(attempt - 1, 64), longest), random)


def jitter(seconds: float, random: Callable[[], float]) -> float:
    """Shorten a wait by up to half."""
    return seconds * (0.5 + random() / 2)
