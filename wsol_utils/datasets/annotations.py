"""Objects of an image as PASCAL VOC writes them down: one XML file an image."""

from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

MAX_BYTES = 4_000_000


@dataclass(frozen=True)
class Annotated:
    """One object: class name, box (x0, y0, x1, y1) with exclusive ends in pixels of the file, and whether difficult."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


def read_objects(content: bytes, where: str) -> list[Annotated]:
    """Read the objects of a VOC annotation; parts of objects (heads, hands) are left out.

    VOC counts pixels from 1 and its xmax and ymax are inclusive, so the box is (xmin - 1, ymin - 1, xmax, ymax). The
    file is not trusted: one with a document type (which may define entities) is refused. Raises OSError, naming
    `where`.

    >>> box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    >>> read_objects(f"<annotation><object><name>cat</name>{box}</object></annotation>".encode(), "a.xml")[0].box
    (0.0, 1.0, 30.0, 40.0)
    """
    if len(content) > MAX_BYTES or b"<!DOCTYPE" in content or b"\0" in content:  # zero bytes: UTF-16 would hide it
        raise OSError(f"{where} is not a plain VOC annotation: remove it or fetch it again.")
    try:
        parser = ElementTree.XMLParser(encoding="utf-8")  # and no other, for the same reason
        root = ElementTree.fromstring(content, parser=parser)
        return [_read_object(element) for element in root.iter("object")]
    except (ElementTree.ParseError, ValueError) as error:
        raise OSError(f"{where} is damaged or not a VOC annotation: remove it or fetch it again.") from error


def _read_object(element: ElementTree.Element) -> Annotated:
    name = (element.findtext("name") or "").strip()
    sides = [float(element.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
    x0, y0, x1, y1 = sides[0] - 1, sides[1] - 1, sides[2], sides[3]
    if not name or not np.isfinite(sides).all() or x1 <= x0 or y1 <= y0:
        raise ValueError("an object needs a name and a box with an area")
    return Annotated(name, (x0, y0, x1, y1), element.findtext("difficult", "0").strip() == "1")
