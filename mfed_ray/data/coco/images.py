"""Image files, against what an annotation file says of them."""

from pathlib import Path

from mfed_ray.data.coco.layout import is_missing
from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.coco.table import Table
from mfed_ray.data.files import read_image
from mfed_ray.errors import DataError


def wrong_size(path: Path, table: Table, position: int, size: tuple[int, int]) -> list[Problem]:
    """A problem if the image file's ``size`` = (H, W) is not that of the table's image."""
    (height, width), (said_height, said_width) = size, table.size(position)
    if (height, width) == (said_height, said_width):
        return []
    message = (
        f"is {width} x {height} pixels (width x height), but {said_width} x {said_height} as {table.path.name} says"
    )
    return [Problem("wrong image size", path, table.name(position), message)]


def wrong_image(path: Path, table: Table, position: int) -> list[Problem]:
    """A problem if the image's file is missing, cannot be decoded to its last pixel, or has another size."""
    name = table.name(position)
    if is_missing(path):
        return [Problem("missing image file", path, name, f"file not found, {table.path.name} lists it")]
    try:
        pixels = read_image(path)
    except DataError as error:
        return [Problem("unreadable file", path, name, str(error).removeprefix(f"{path}: "))]
    return wrong_size(path, table, position, pixels.shape[:2])
