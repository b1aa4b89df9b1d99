import gzip
import json

import numpy as np
import pytest

from training.captioned_pictures import CaptionedPictures
from training.pictures import train_vae


@pytest.fixture(autouse=True)
def repeatable(one_thread):
    """Use one thread, so that every run sums in the same order."""


@pytest.fixture
def pairs_folder(tmp_path):
    """Sixteen pictures of 32 px: a light square on a dark ground, in one of four places that the caption names."""
    images = np.full((16, 32, 32, 3), 40, np.uint8)
    captions = []
    for row in range(16):
        x, y = 16 * (row % 2), 16 * (row // 2 % 2)
        images[row, y : y + 16, x : x + 16] = (230, 180, 60)
        captions.append(f"a square {'right' if x else 'left'} {'below' if y else 'above'}")
    CaptionedPictures(images, tuple(captions)).save(tmp_path / "pairs")
    return tmp_path / "pairs"


@pytest.fixture
def vae_knobs(pairs_folder, tmp_path):
    """The knobs for twenty steps of a tiny autoencoder."""
    return train_vae.Knobs(
        pairs=pairs_folder,
        out=tmp_path / "vae",
        steps=20,
        batch=4,
        crop=32,
        held_out=4,
        encoder_width=8,
        decoder_width=8,
        threads=1,
        log_every=1,
    )


def group_row(number):
    near = [["colour", f"a blue thing {number}"], ["dropped-object", f"a red part {number}"]]
    texts = {"base": f"a red thing {number}", "same": [f"thing {number}, red", f"red-coloured thing {number}"]}
    return {"group": f"E{number}", **texts, "more": f"a red thing {number} on a table", "near": near}


def relaxed_row(number):
    surprise = [["object", f"an orange fox {number} with a gun"]]
    return {
        "group": f"R{number}",
        "base": f"a fox {number}",
        "more": [f"a fox {number}, grass"],
        "surprise": surprise,
    }


def pair_row(number, source, **more):
    texts = {"a": f"{source} one {number}", "b": f"{source} two {number}"}
    return {**texts, "y": number % 2, "kind": "any", "source": source, "group": f"{source}:{number}", **more}


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture
def judge_data(tmp_path):
    """A small folder with each kind of the judge's data."""
    folder, numbers = tmp_path / "data", range(60)
    for file in "ABCDG":
        write_rows(folder / "judge" / "authored" / f"{file}.jsonl", [])
    write_rows(folder / "judge" / "authored" / "E.jsonl", map(group_row, numbers))
    write_rows(folder / "judge" / "authored" / "relaxed.jsonl", map(relaxed_row, numbers))
    real = [{**pair_row(number, "real", share=2), "kind": "SMLD"[number % 4]} for number in numbers]
    write_rows(folder / "judge" / "real" / "pairs.jsonl", real)
    for source in ("colorswap", "snli_becel", "stsb_captions", "sick", "winoground_t2i"):
        write_rows(folder / "judge" / "public" / f"{source}.jsonl", [pair_row(number, source) for number in numbers])
    for source in ("cxc_sits", "cxc_sts", "vsr"):
        rows = [{**pair_row(number, source), "group": f"coco:{number}+{number + 1}"} for number in numbers]
        write_rows(folder / "judge" / "public" / f"{source}.jsonl", rows)
    write_rows(folder / "reuse" / "dev.jsonl", [pair_row(number, "scpp") for number in range(10)])
    write_rows(folder / "reuse" / "train.jsonl", [pair_row(number, "scpp") for number in range(5, 60)])
    (folder / "traces").mkdir()
    with gzip.open(folder / "traces" / "stream-1.tsv.gz", "wt") as lines:
        lines.write("n\tcaller\tprompt\tsettings\n")
        lines.writelines(f"{number}\tcaller-{number // 10}\tReal one {number}!\t\n" for number in numbers)
    return folder
