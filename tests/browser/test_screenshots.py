"""The README's pictures: small enough, and of the parts of the page that they are said to show."""

from __future__ import annotations

import struct

import pytest

from tools import screenshots

LARGEST = 250_000  # bytes


def size(path) -> tuple[int, int]:
    """Width and height of a PNG file, which stand in its first chunk."""
    return struct.unpack(">II", path.read_bytes()[16:24])


@pytest.mark.parametrize("name", screenshots.PICTURES)
def test_what_lies_in_the_repository(name):
    path = screenshots.IMAGES / name
    assert path.stat().st_size <= LARGEST
    assert size(path)[0] == screenshots.PICTURES[name][3]


def test_no_picture_is_left_from_before():
    assert {path.name for path in screenshots.IMAGES.glob("*.png")} == set(screenshots.PICTURES)


def test_a_part_of_a_page(browser, naive, tmp_path):
    screenshots.picture(browser, naive.page, tmp_path / "x.png", "dark", "#loss", "#activations", 700)
    tab = screenshots.opened(browser, naive.page, 700, "dark")
    tops = [tab.locator(part).bounding_box() for part in ("#loss", "#activations")]
    tab.close()
    expected = tops[1]["y"] + tops[1]["height"] - tops[0]["y"] + 2 * screenshots.MARGIN
    assert size(tmp_path / "x.png") == (700, pytest.approx(expected, abs=1))
