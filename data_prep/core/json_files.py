"""JSON files: written whole, read strictly."""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import TypeVar, get_args, get_type_hints

from data_prep.core.errors import InputError
from data_prep.core.files import LARGEST_TEXT, read_bytes, write_text

Record = TypeVar("Record")


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file that is never seen half written."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path, keys: Mapping[str, object] = MappingProxyType({})) -> dict:
    """Return the JSON object that a file of ours holds; InputError unless it is one, with these keys.

    `keys` gives each key's type, as in {"seed": int, "weights": str | None}, or the keys of an object within. A number
    is a finite one, and a whole one from 0 to 2^31 - 1: none of ours is another.
    """
    try:
        content = json.loads(read_bytes(path, LARGEST_TEXT))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged: no JSON ({error or type(error).__name__})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged: no JSON object")
    check_keys(path, content, keys)
    return content


def check_keys(path: Path, content: dict, keys: Mapping[str, object]) -> None:
    """Raise InputError unless a JSON object that was read from `path` has these keys, as read_json() says."""
    for key, kind in keys.items():
        if key not in content:
            raise InputError(f"{path}: damaged, or of another version: no {key} in it")
        if not _is_of(content[key], dict if isinstance(kind, Mapping) else kind):
            raise InputError(f"{path}: damaged: {key} is {json.dumps(content[key])[:40]}")
        if isinstance(kind, Mapping):
            check_keys(path, content[key], kind)


def parse_record(kind: type[Record], content: dict, path: Path) -> Record:
    """Return a dataclass's record from the values that a JSON file has for its fields; InputError as read_json()."""
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):  # type: ignore[arg-type]  # a dataclass
        value = content.get(field.name, field.default)
        if not _is_of(value, hints[field.name]):
            what = "is missing" if value is MISSING else f"is {json.dumps(value)[:40]}"
            raise InputError(f"{path}: damaged, or of another version: {field.name} {what}")
        found[field.name] = value
    return kind(**found)


def _is_of(value: object, kind: object) -> bool:
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if type(value) is int and int in kinds:
        return 0 <= value < 2**31
    if isinstance(value, int | float) and type(value) is not bool and float in kinds:
        return math.isfinite(value)
    return type(value) in kinds or (value is None and None in kinds)
