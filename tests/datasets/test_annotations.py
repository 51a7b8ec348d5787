"""VOC annotations, which come from anywhere."""

import pytest

from wsol_utils.datasets.annotations import read_objects

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def _annotation(*objects):
    return f"<annotation>{''.join(f'<object>{one}</object>' for one in objects)}</annotation>".encode()


def test_boxes_become_exclusive_and_count_from_zero():
    (one,) = read_objects(_annotation("<name> cat </name>" + BOX.format(1, 1, 10.5, 1)), "a.xml")
    assert (one.name, one.box, one.difficult) == ("cat", (0, 0, 10.5, 1), False)


def test_difficult_objects_and_parts():
    part = "<part><name>head</name>" + BOX.format(2, 2, 3, 3) + "</part>"
    objects = read_objects(_annotation(part + "<name>cat</name><difficult>1</difficult>" + BOX.format(1, 1, 9, 9)), "a")
    assert [(one.name, one.difficult) for one in objects] == [("cat", True)]


def test_no_object():
    assert read_objects(_annotation(), "a.xml") == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not xml",
        _annotation("<name>cat</name>" + BOX.format(1, 1, 9, 9))[:-9],
        _annotation("<name>cat</name>"),
        _annotation(BOX.format(1, 1, 9, 9)),
        _annotation("<name>cat</name>" + BOX.format(9, 1, 5, 9)),
        _annotation("<name>cat</name>" + BOX.format(1, "nan", 9, 9)),
        _annotation("<name>cat</name>" + BOX.format(1, "inf", 9, "inf")),
        _annotation("<name>cat</name>" + BOX.format(1, "one", 9, 9)),
        "<annotation>ä</annotation>".encode("latin-1"),
    ],
)
def test_damaged(content):
    with pytest.raises(OSError, match=r"a\.xml is damaged or not a VOC annotation: remove it or fetch it again"):
        read_objects(content, "a.xml")


BOMB = '<!DOCTYPE a [<!ENTITY b "cat"><!ENTITY c SYSTEM "file:///etc/hostname">]><a>&b;&c;</a>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "cp037"])
def test_entities_are_refused_however_they_are_written(encoding):
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>'
    for content in ((declaration + BOMB).encode(encoding), declaration.encode() + BOMB.encode(encoding)):
        with pytest.raises(OSError, match=r"a\.xml is (not a plain VOC|damaged or not a VOC) annotation"):
            read_objects(content, "a.xml")


def test_huge_annotation_is_refused():
    with pytest.raises(OSError, match="not a plain VOC annotation"):
        read_objects(b" " * 5_000_000, "a.xml")
