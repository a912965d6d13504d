"""Conversion between TOML tables and frozen values; every error is reported with the path of its key.

The attrs class *is* the schema: a field is a key, its type defines the allowed values, its default is
the key's default. What TOML has no type for (a duration, a size, an endpoint) is a string with a
`StringFormat`, which `Annotated` attaches to the field's type.

cattrs converts the classes; the hooks here are stricter than its own, which would convert `"5"` to an int,
`true` to 1 and `"abc"` to a list of three patterns. It continues after an error, so that an operator sees
all of them at once; `_messages` converts its tree of exceptions into one line each.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

T = TypeVar("T")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

_MAX_COUNT = 10**6

NOT_A_KEY = "mirrord.config.schema.not_a_key"
"""Metadata of a field that is not a key of the file."""


@attrs.frozen
class StringFormat:
    """How a value is written as a string: `parse` raises ValueError, `format` is its inverse."""

    parse: Callable[[str], object]
    format: Callable[[Any], str] = str
    example: str = ""


class InvalidKey(ValueError):
    """A key whose value is invalid in combination with the other keys of its table."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def read(cls: type[T], table: object, path: str = "") -> tuple[T | None, list[str]]:
    """Convert the table at `path` to a `cls`; return None and the errors, a line each, if it is invalid."""
    try:
        return _CONVERTER.structure(table, cls), []
    except (BaseValidationError, TypeError) as errors:
        return None, list(_messages(errors, path))


def write(value: attrs.AttrsInstance, header: str = "") -> str:
    """Return the TOML that `read` converts to this value; a field that is NOT_A_KEY is omitted."""
    plain: list[str] = []
    nested: list[str] = []
    for field in attrs.fields(type(value)):
        content = getattr(value, field.name)
        name = f"{header}.{field.name}".lstrip(".")
        if content is None or NOT_A_KEY in field.metadata:
            continue
        if _is_table(content, field.type):
            nested.append(f"\n[{name}]\n{write(content, name)}")
        elif isinstance(content, tuple) and content and _is_table(content[0], field.type):
            nested.extend(f"\n[[{name}]]\n{write(item, name)}" for item in content)
        elif content != () or field.default != ():
            plain.append(f"{field.name} = {write_value(content, field.type)}\n")
    return "".join(plain + nested)


def write_value(content: object, kind: object) -> str:
    """Return the TOML of one value of the type `kind`."""
    if isinstance(content, tuple):
        return "[" + ", ".join(write_value(item, kind) for item in content) + "]"
    if isinstance(content, bool):
        return "true" if content else "false"
    string_format = _string_format(kind)
    if string_format is None and isinstance(content, int):
        return str(content)
    text = string_format.format(content) if string_format else str(content)
    # A JSON string is a TOML basic string, except for DEL, which JSON does not escape and TOML forbids.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_table(content: object, kind: object) -> bool:
    return attrs.has(type(content)) and _string_format(kind) is None


def _string_format(kind: Any) -> StringFormat | None:
    """Return the format inside a field's type, such as `Seconds | None` or `tuple[Pattern, ...]`."""
    if get_origin(kind) is Annotated:
        return cast("StringFormat", kind.__metadata__[0])
    return next(filter(None, map(_string_format, get_args(kind))), None)


def _messages(errors: BaseException, path: str) -> Iterator[str]:
    if isinstance(errors, ForbiddenExtraKeysError):
        known = _field_names(errors.cl, are_keys=True)
        for key in sorted(errors.extra_fields):
            yield f"{_join(path, key)}: unknown key{_suggest(key, known)}"
    elif isinstance(errors, BaseValidationError):
        for error in errors.exceptions:
            yield from _messages(error, _join(path, _step_of(error)))
    elif isinstance(errors, KeyError):
        yield f"{path}: missing"
    elif isinstance(errors, InvalidKey):
        yield f"{_join(path, errors.key)}: {errors}"
    else:
        yield f"{path}: {errors}"


def _step_of(error: BaseException) -> str | int | None:
    """Return the key or index of an error in its parent; None for the table itself."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return note.name
        if isinstance(note, IterableValidationNote):
            return note.index
    return None


def _join(path: str, step: str | int | None) -> str:
    if step is None:
        return path
    if isinstance(step, int):
        return f"{path}[{step}]"
    key = step if _BARE_KEY.fullmatch(step) else json.dumps(step)
    return f"{path}.{key}" if path else key


def _suggest(key: str, known: list[str]) -> str:
    similar = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {similar[0]}?" if similar else ""


def _type_name(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
    return "a date or time"


def _field_names(cls: type[attrs.AttrsInstance], *, are_keys: bool) -> list[str]:
    return [field.name for field in attrs.fields(cls) if (NOT_A_KEY not in field.metadata) is are_keys]


def _build_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)

    def read_table(cls: Any) -> Callable[[Any, Any], Any]:
        omitted: Any = {name: override(omit=True) for name in _field_names(cls, are_keys=False)}
        structure = make_dict_structure_fn(cls, converter, **omitted)
        return lambda value, _: structure(_require(dict, "a table", value), cls)

    def read_list(kind: Any) -> Callable[[Any, Any], Any]:
        structure = homogenous_tuple_structure_factory(kind, converter)
        return lambda value, _: structure(_require(list, "a list", value), kind)

    def read_string(kind: Any) -> Callable[[Any, Any], Any]:
        string_format: StringFormat = kind.__metadata__[0]
        example = string_format.example
        name = f"a string such as {example}" if example else "a string"
        return lambda value, _: string_format.parse(_require(str, name, value))

    converter.register_structure_hook(str, lambda value, _: _require(str, "a string", value))
    converter.register_structure_hook(int, lambda value, _: _require_count(value))
    converter.register_structure_hook(bool, lambda value, _: _require(bool, "true or false", value))
    converter.register_structure_hook_factory(_is_a(Annotated), read_string)
    converter.register_structure_hook_factory(_is_a(tuple), read_list)
    converter.register_structure_hook_factory(attrs.has, read_table)
    return converter


def _is_a(origin: object) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _require(kind: type[T], name: str, value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"must be {name}, not {_type_name(value)}")
    return value


def _require_count(value: object) -> int:
    """Return a positive whole number; all numbers of the file are."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_COUNT:
        raise TypeError(f"must be a whole number from 1 to {_MAX_COUNT}")
    return value


_CONVERTER = _build_converter()
