"""Findings: what the doctor sees, and what to do about it."""

from enum import StrEnum

import attrs


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@attrs.frozen
class Finding:
    """One line of the doctor's; `advice` says what to do where it is not well."""

    subject: str
    level: Level
    text: str
    advice: str = ""


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject, Level.OK, text)


def warn(subject: str, text: str, advice: str) -> Finding:
    """It works, and may not for long."""
    return Finding(subject, Level.WARN, text, advice)


def fail(subject: str, text: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(subject, Level.FAIL, text, advice)
