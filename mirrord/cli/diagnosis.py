"""Findings: what the doctor sees, and what to do about it."""

from enum import StrEnum

import attrs


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@attrs.frozen
class Diagnosis:
    """One line of the doctor's; `advice` says what to do where it is not well."""

    subject: str
    level: Level
    text: str
    advice: str = ""


def ok(subject: str, text: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(subject, Level.OK, text)


def warn(subject: str, text: str, advice: str) -> Diagnosis:
    """It works, and may not for long."""
    return Diagnosis(subject, Level.WARN, text, advice)


def fail(subject: str, text: str, advice: str) -> Diagnosis:
    """It does not work."""
    return Diagnosis(subject, Level.FAIL, text, advice)
