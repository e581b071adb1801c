"""Whether a MATLAB file is whole, before SciPy reads it.

SciPy's reader of version 5 takes the types and counts that a file says for true: a damaged one crashes the process, or
has it ask for all memory (https://github.com/scipy/scipy/pull/25829). Here each element of the variables that are
asked for is walked: its type, its bytes and how many elements its class has.
"""

import math
import zlib
from collections.abc import Collection, Iterator
from itertools import islice
from struct import Struct, unpack_from
from typing import NamedTuple

_HEADER, _TAG = 128, 8
_LARGEST = 2**28  # bytes of a decompressed variable: masks of a person's parts have some millions
_DEEPEST = 16
_MOST = 2**17  # elements of a file: a photo's parts have some thousands
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_NUMBERS = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13})  # types of elements: integers of 8 to 64 bits, single, double
_LETTERS = frozenset({1, 2, 4, 16})  # integers of 8 bits, unsigned ones of 16, UTF-8
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)  # classes of matrices: double to uint64
_COMPLEX = 1 << 11


class _Element(NamedTuple):
    type: int
    data: memoryview


class _File(NamedTuple):
    """What holds for a whole file: the order of its bytes, and the elements that may still come."""

    order: str
    left: Iterator[int]


def check_structure(content: bytes, names: Collection[str]) -> None:
    """Raise ValueError where a version 5 file is damaged in one of the named variables, or holds another class in it.

    Allowed are numeric arrays, texts, cells and structs. Files of other versions are not looked at.
    """
    if content[126:128] not in (b"IM", b"MI"):
        return
    file = _File("<" if content[126:128] == b"IM" else ">", iter(range(_MOST)))
    for element in _elements(memoryview(content)[_HEADER:], file):
        if element.type == _COMPRESSED:
            (element,) = _elements(memoryview(_decompressed(element.data)), file)
        if element.type != _MATRIX:
            raise ValueError(f"an element of type {element.type} found in place of a variable, allowed is {_MATRIX}")
        _check_matrix(element.data, file, 0, names)


def _decompressed(data: memoryview) -> bytes:
    stream = zlib.decompressobj()
    found = stream.decompress(data, _LARGEST)
    if not stream.eof:
        raise ValueError(f"a compressed variable is cut, or larger than {_LARGEST} bytes")
    return found


def _elements(data: memoryview, file: _File) -> Iterator[_Element]:
    """One element after the other; a small one has its data in its tag. Each begins at a multiple of 8 bytes."""
    tag, at = Struct(f"{file.order}II"), 0
    while at < len(data):
        if next(file.left, None) is None:
            raise ValueError(f"more than {_MOST} elements found")
        if len(data) - at < _TAG:
            raise ValueError(f"{len(data) - at} bytes found in place of an element")
        kind, count = tag.unpack_from(data, at)
        start, small = at + _TAG, kind >> 16
        if small:
            kind, count, start = kind & 0xFFFF, small, at + _TAG // 2
        if count > (4 if small else len(data) - start):
            raise ValueError(f"an element of {count} bytes found, {len(data) - start} are left")
        yield _Element(kind, data[start : start + count])
        at = start + count if kind == _COMPRESSED else start + count + -(start + count) % 8


def _check_matrix(data: memoryview, file: _File, depth: int, names: Collection[str] | None = None) -> None:
    """``names``: of a variable, those that are asked for."""
    if not len(data) and depth:
        return
    if depth > _DEEPEST:
        raise ValueError(f"cells and structs lie more than {_DEEPEST} deep in each other")
    elements = _elements(data, file)
    flags, sizes, name = _at_least(list(islice(elements, 3)), 3)
    if flags.type != _UINT32 or len(flags.data) != 8 or sizes.type not in (_INT32, _UINT32):
        raise ValueError("an array without flags and sizes found")
    if len(sizes.data) not in range(8, 129, 4):
        raise ValueError(f"sizes of an array of {len(sizes.data)} bytes found, allowed are 8 to 128, 4 for each axis")
    if names is not None and bytes(name.data).decode("latin-1") not in names:
        return
    (flag,) = unpack_from(f"{file.order}I", flags.data)
    count = math.prod(unpack_from(f"{file.order}{len(sizes.data) // 4}i", sizes.data))
    if not 0 <= count <= len(data):  # a value has a byte at least
        raise ValueError(f"an array of {count} values found, allowed are 0 to {len(data)}, its bytes")
    _check_content(flag, count, list(elements), file, depth)


def _check_content(flag: int, count: int, rest: list[_Element], file: _File, depth: int) -> None:
    """What follows an array's head: values, texts, or as many arrays as a cell or a struct of this ``count`` has."""
    kind = flag & 0xFF
    if kind in _NUMERIC:
        _check_values(rest, 2 if flag & _COMPLEX else 1, _NUMBERS)
    elif kind == _CHAR:
        _check_values(rest, 1, _LETTERS)
    elif kind == _CELL:
        _check_parts(rest, count, file, depth)
    elif kind == _STRUCT:
        length, fields, *parts = _at_least(rest, 2)
        _check_parts(parts, count * _fields(length, fields, file.order), file, depth)
    else:
        raise ValueError(f"an array of class {kind} found, allowed are numbers, texts, cells and structs")


def _fields(length: _Element, names: _Element, order: str) -> int:
    """How many fields a struct has: their names are of one length."""
    if length.type != _INT32 or len(length.data) != 4:
        raise ValueError("a struct without the length of its fields' names found")
    size: int = unpack_from(f"{order}i", length.data)[0]
    if size < 1 or len(names.data) % size:
        raise ValueError(f"fields' names of {size} bytes found, which do not divide {len(names.data)}")
    return len(names.data) // size


def _check_values(elements: list[_Element], count: int, allowed: Collection[int]) -> None:
    if len(elements) != count:
        raise ValueError(f"{len(elements)} elements of values found, must be {count}")
    for element in elements:
        if element.type not in allowed:
            raise ValueError(f"values of type {element.type} found, allowed are {sorted(allowed)}")


def _check_parts(parts: list[_Element], count: int, file: _File, depth: int) -> None:
    if len(parts) != count or any(part.type != _MATRIX for part in parts):
        raise ValueError(f"{len(parts)} parts of a cell or struct found, its size asks for {count} arrays")
    for part in parts:
        _check_matrix(part.data, file, depth + 1)


def _at_least(elements: list[_Element], count: int) -> list[_Element]:
    if len(elements) < count:
        raise ValueError(f"an array of {len(elements)} elements found, it must have {count}")
    return elements
