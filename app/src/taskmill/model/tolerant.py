"""Reading plain data into typed structures, whatever is missing in it or broken."""

from __future__ import annotations

import types
from contextlib import suppress
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

Structure = TypeVar("Structure", bound=msgspec.Struct)


def read(kind: type[Structure], data: Any) -> Structure:
    """Return the structure that JSON data hold; a field has its default where they lack it, or have another type.

    Of lists and objects of structures, entries that are none are left out. Keys that the structure does not know are
    left out too.
    """
    given = data if isinstance(data, dict) else {}
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name in given:
            with suppress(msgspec.ValidationError):
                values[field.name] = _value(field.type, given[field.encode_name])
    return kind(**values)


def _value(kind: Any, data: Any) -> Any:
    """Return data as a type; raise ``msgspec.ValidationError`` where nothing of them is."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return _value(arguments[0], data)
        if _is_structure(kind) and isinstance(data, dict):
            return read(kind, data)
        if origin in {Union, types.UnionType}:
            for one in filter(_is_structure, arguments):
                return _value(one, data)
        if origin is list and isinstance(data, list):
            return [value for entry in data for value in _entry(arguments[0], entry)]
        if origin is dict and isinstance(data, dict):
            return {key: value for key, entry in data.items() for value in _entry(arguments[1], entry)}
        raise


def _entry(kind: Any, data: Any) -> list[Any]:
    """Return a list of the one value that the data hold, or an empty one."""
    with suppress(msgspec.ValidationError):
        return [_value(kind, data)]
    return []


def _is_structure(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
