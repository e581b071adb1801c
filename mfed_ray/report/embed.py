"""Plots and pictures as parts of a page: nothing is left for a browser to fetch."""

import base64
import io
import re
from xml.etree import ElementTree as ET

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

_NAMESPACE = re.compile(r"\{[^}]*\}")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_URL = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font-family:[^;]*;?\s*")
_DROPPED = ("metadata", "style")
_JPEG_QUALITY = 85


def inline_svg(plot: Figure, prefix: str, alt: str) -> str:
    """The plot as an SVG element, its ids beginning with the prefix; text stays text, in the page's font."""
    buffer = io.BytesIO()
    plot.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ET.fromstring(buffer.getvalue())  # noqa: S314  (what was just written)
    used = {found for element in root.iter() for name, value in element.attrib.items() for found in _used(name, value)}
    for parent in root.iter():
        for child in [one for one in parent if _local(one.tag) in _DROPPED]:
            parent.remove(child)
    for element in root.iter():
        _clean(element, prefix, used)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": alt}
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element, prefix: str, used: set[str]) -> None:
    """Without namespaces, layout, surplus digits, and ids that nothing refers to."""
    element.tag = _local(element.tag)
    element.tail = None
    if element.tag != "text" and not (element.text or "").strip():
        element.text = None
    attributes = {_local(name): value for name, value in element.attrib.items()}
    if attributes.get("id") not in used:
        attributes.pop("id", None)
    element.attrib = {name: _rewritten(name, value, prefix) for name, value in attributes.items()}


def _rewritten(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if value.startswith("data:"):
        return "".join(value.split())
    if name == "d":
        return _NUMBER.sub(lambda match: f"{float(match[0]):.2f}", " ".join(value.split()))
    if name == "style":
        value = _FONT.sub("", value)
    if name == "href":
        return f"#{prefix}-{value[1:]}"
    return _URL.sub(rf"url(#{prefix}-\1)", value)


def _used(name: str, value: str) -> list[str]:
    """The ids that an attribute refers to."""
    return [value[1:]] if _local(name) == "href" else _URL.findall(value)


def _local(name: str) -> str:
    return _NAMESPACE.sub("", name)


def jpeg(pixels: NDArray[np.uint8]) -> str:
    """The picture, uint8 [H, W, 3], as a data URL."""
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="jpeg", pil_kwargs={"quality": _JPEG_QUALITY, "optimize": True})
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
