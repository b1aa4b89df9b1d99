"""Building the sprite bank: names, drawings from packages, and colours."""

import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from memo.errors import BadSetup
from training.scenes import art
from training.scenes.places import COLOURS
from worker.stickers.nouns import plural
from worker.stickers.sprites import Sprite

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path fill="#f00" d="M0 0h8v4H0z"/></svg>'


def test_no_two_things_share_a_name():
    names = [name for _, names, _ in art.read_concepts() for name in names]
    assert len(names) == len(set(names)) > 500


def test_no_plural_is_the_name_of_another_thing():
    thing_of = {name: names[0] for _, names, _ in art.read_concepts() for name in names}
    assert [name for name in thing_of if thing_of.get(plural(name), thing_of[name]) != thing_of[name]] == []


def test_every_colour_of_a_thing_is_a_known_colour():
    assert {colour for _, _, colours in art.read_concepts() for colour in colours} <= set(COLOURS)


def test_an_altered_package_is_refused(tmp_path):
    (tmp_path / art.EMOJI.archive).write_bytes(b"something else")
    with pytest.raises(BadSetup, match="sha256"):
        art.open_package(art.EMOJI, tmp_path)


def test_without_npm_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadSetup, match="npm"):
        art.open_package(art.EMOJI, tmp_path)


def make_package(folder, **files):
    """Make an npm package of these files, open for reading."""
    with tarfile.open(folder / "made-up.tgz", "w:gz") as package:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            package.addfile(member, io.BytesIO(data))
    return tarfile.open(folder / "made-up.tgz")


def test_a_drawing_is_found_though_its_file_name_has_a_variation_selector(tmp_path):
    data = io.BytesIO()
    Image.new("RGBA", (8, 8), "red").save(data, "WEBP")
    drawings = art.Drawings(make_package(tmp_path, **{"assets/2601-fe0f.webp": data.getvalue()}))
    assert "2601" in drawings and "1f98a" not in drawings
    assert drawings("2601").size == (8, 8)


def test_vector_drawings_are_rendered(tmp_path):
    picture = np.asarray(art.VectorDrawings(make_package(tmp_path, **{"1f98a.svg": SVG.encode()}))("1f98a"))
    assert picture.shape == (art.RENDERED_SIDE, art.RENDERED_SIDE, 4)
    assert tuple(picture[10, 10]) == (255, 0, 0, 255) and picture[-10, 10, 3] == 0


def test_icon_sets_are_rendered(tmp_path):
    icons = {"icons": {"fox": {"body": '<path fill="#00f" d="M0 0h4v8H0z"/>'}}, "width": 8, "height": 8}
    files = {"icons.json": icons, "chars.json": {"1f98a": "fox", "1f98b": "not-there"}}
    drawings = art.IconSet(
        make_package(tmp_path, **{name: json.dumps(data).encode() for name, data in files.items()})
    )
    assert "1f98a" in drawings and "1f98b" not in drawings
    assert tuple(np.asarray(drawings("1f98a"))[10, 10]) == (0, 0, 255, 255)


GROUPS = {"1": "animal-mammal", "2": "person-role", "3": "arrow", "4": "time", "5": "place-other", "6": "tool"}


@pytest.mark.parametrize(
    ("subgroup", "group", "label", "expected"),
    [
        (1, 3, "fox", True),
        (2, 1, "astronaut", True),
        (2, 1, "man astronaut", False),
        (3, 8, "up arrow", False),
        (4, 5, "alarm clock", True),
        (4, 5, "two o’clock", False),
        (5, 5, "sunset", False),
        (6, 7, "hammer", True),
    ],
)
def test_only_emoji_that_can_stand_alone_are_things(subgroup, group, label, expected):
    row = {"subgroup": subgroup, "group": group, "label": label, "hexcode": "1F468-200D-1F680"}
    assert art.is_thing(row, GROUPS) is expected


def test_names_come_from_labels_and_short_codes_unless_taken():
    rows = [
        {"hexcode": "1F98A", "label": "fox face", "emoji": "🦊"},
        {"hexcode": "1FA97", "label": "Big  accordion", "emoji": "🪗"},
    ]
    table = {art.emoji_key(row): row for row in rows}
    taken = {"squeezebox"}
    assert art.free_names(
        table["1fa97"] | {"label": "accordion"}, {"1FA97": ["squeezebox", "x2", "accordion_box"]}, taken
    ) == (
        "accordion",
        "accordion box",
    )


def test_a_table_entry_without_drawings_is_refused():
    with pytest.raises(BadSetup, match="not every style has a drawing"):
        list(art.make_sprites([], {}))


def test_a_drawing_is_cut_to_what_is_visible():
    picture = Image.new("RGBA", (64, 64))
    picture.paste((255, 0, 0, 255), (10, 20, 50, 40))
    assert art.cut_out(picture).size == (40, 20)


def test_colours_come_from_the_drawing_unless_the_table_names_them():
    drawing = Image.new("RGBA", (40, 40), (45, 110, 225, 255))
    bare = Sprite("1", ("zig",))
    assert art.with_colours(bare, drawing).colours == ("blue",)
    assert art.with_colours(replace(bare, colours=("red",)), drawing).colours == ("red",)
