"""Image files, against what an annotation file says of them."""

from pathlib import Path

from PIL import Image

from mfed_ray.data.coco.problems import Problem
from mfed_ray.data.coco.table import Table


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
    """A problem if the image's file is missing, is no image, or has another size; its pixels are not read."""
    name = table.name(position)
    if not path.is_file():
        return [Problem("missing image file", path, name, f"file not found, {table.path.name} lists it")]
    try:
        with Image.open(path) as image:
            size = image.height, image.width
    except (OSError, SyntaxError, ValueError) as error:
        return [Problem("unreadable file", path, name, f"cannot be decoded as an image ({error})")]
    return wrong_size(path, table, position, size)
