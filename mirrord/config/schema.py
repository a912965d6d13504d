"""From TOML tables to frozen values and back, with every error under the path of its key.

The attrs class *is* the schema: a field is a key, its type says what may stand there, its default
is the key's default. What TOML has no type for (a duration, a size, an endpoint) is a `Word`: a
string in the file with a grammar of its own, attached to the field's type by `Annotated`.

cattrs takes the classes apart; its hooks here are stricter than its own, which would make
`"5"` an int, `true` a 1 and `"abc"` a list of three patterns. It goes on after an error, so that an
operator sees all of them at once; `_lines` turns its tree of exceptions into one line each.
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
"""Metadata of a field that does not stand in the file."""


@attrs.frozen
class Word:
    """A string with a grammar: `read` raises ValueError, `write` is its inverse."""

    read: Callable[[str], object]
    write: Callable[[Any], str] = str
    example: str = ""


class WrongKey(ValueError):
    """What is wrong with one key of a table that can only be judged as a whole."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def read(cls: type[T], table: object, path: str = "") -> tuple[T | None, list[str]]:
    """Make a `cls` of the table that stands at `path`; else None and all that is wrong, a line each."""
    try:
        return _CONVERTER.structure(table, cls), []
    except (BaseValidationError, TypeError) as errors:
        return None, list(_lines(errors, path))


def write(value: attrs.AttrsInstance, header: str = "") -> str:
    """The TOML of which `read` makes this value; a field that is NOT_A_KEY does not show."""
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
    """The TOML of one value of the type `kind`."""
    if isinstance(content, tuple):
        return "[" + ", ".join(write_value(item, kind) for item in content) + "]"
    if isinstance(content, bool):
        return "true" if content else "false"
    word = _word_of(kind)
    if word is None and isinstance(content, int):
        return str(content)
    text = word.write(content) if word else str(content)
    # A JSON string is a TOML basic string, but for DEL, which JSON leaves bare and TOML forbids.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_table(content: object, kind: object) -> bool:
    return attrs.has(type(content)) and _word_of(kind) is None


def _word_of(kind: Any) -> Word | None:
    """The word in a field's type, however deep: `Seconds`, `Seconds | None`, `tuple[Pattern, ...]`."""
    if get_origin(kind) is Annotated:
        return cast("Word", kind.__metadata__[0])
    return next(filter(None, map(_word_of, get_args(kind))), None)


def _lines(errors: BaseException, path: str) -> Iterator[str]:
    if isinstance(errors, ForbiddenExtraKeysError):
        known = _names(errors.cl, of_keys=True)
        for key in sorted(errors.extra_fields):
            yield f"{_join(path, key)}: unknown key{_suggest(key, known)}"
    elif isinstance(errors, BaseValidationError):
        for error in errors.exceptions:
            yield from _lines(error, _join(path, _step_of(error)))
    elif isinstance(errors, KeyError):
        yield f"{path}: missing"
    elif isinstance(errors, WrongKey):
        yield f"{_join(path, errors.key)}: {errors}"
    else:
        yield f"{path}: {errors}"


def _step_of(error: BaseException) -> str | int | None:
    """Where in its parent cattrs met an error: a key, an index, or None for the table itself."""
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
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _name_of(value: object) -> str:
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


def _names(cls: type[attrs.AttrsInstance], *, of_keys: bool) -> list[str]:
    return [field.name for field in attrs.fields(cls) if (NOT_A_KEY not in field.metadata) is of_keys]


def _build_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)

    def read_table(cls: Any) -> Callable[[Any, Any], Any]:
        omitted: Any = {name: override(omit=True) for name in _names(cls, of_keys=False)}
        structure = make_dict_structure_fn(cls, converter, **omitted)
        return lambda value, _: structure(_need(dict, "a table", value), cls)

    def read_list(kind: Any) -> Callable[[Any, Any], Any]:
        structure = homogenous_tuple_structure_factory(kind, converter)
        return lambda value, _: structure(_need(list, "a list", value), kind)

    def read_word(kind: Any) -> Callable[[Any, Any], Any]:
        word: Word = kind.__metadata__[0]
        name = f"a string such as {word.example}" if word.example else "a string"
        return lambda value, _: word.read(_need(str, name, value))

    converter.register_structure_hook(str, lambda value, _: _need(str, "a string", value))
    converter.register_structure_hook(int, lambda value, _: _need_count(value))
    converter.register_structure_hook(bool, lambda value, _: _need(bool, "true or false", value))
    converter.register_structure_hook_factory(_is_a(Annotated), read_word)
    converter.register_structure_hook_factory(_is_a(tuple), read_list)
    converter.register_structure_hook_factory(attrs.has, read_table)
    return converter


def _is_a(origin: object) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _need(kind: type[T], name: str, value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is needed, not {_name_of(value)}")
    return value


def _need_count(value: object) -> int:
    """The only numbers of the file count something, and none of it is nothing."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_COUNT:
        raise TypeError(f"a whole number from 1 to {_MAX_COUNT} is needed")
    return value


_CONVERTER = _build_converter()
