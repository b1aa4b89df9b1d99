"""Split the judge's pairs into train, dev and test: `python -m training.pairs.splits --data FOLDER --out FOLDER`.

Judges are trained on `train` and compared on `dev`. `test` is used only once, for the final figures. Hashes of names
decide which split a pair goes to, so the result is always the same. No text is in two splits: pairs that would break
this rule are left out.
"""

import gzip
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from disk.durable_files import write_durably
from memo.errors import BadSetup
from training.knobs import from_arguments

from .pair_sources import (
    AUTHORED_FILES,
    CHECKED_CAPTIONS,
    EVALUATION_ONLY,
    authored_pairs,
    caption_pair,
    public_pairs,
    read_rows,
    real_pair,
    relaxed_pairs,
)
from .relation_pair import RELATIONS, RelationPair, words_only

SALT = "memoaized-judge-1"  # changing it changes all splits
SPLITS = ("train", "dev", "test")
SUMMARY = "summary.md"  # written last
Placed = list[tuple[str, RelationPair]]  # (split, pair)


@dataclass(frozen=True)
class Knobs:
    """Input and output folders."""

    data: Path  # contains the folders judge, reuse and traces
    out: Path = Path("var/judge/pairs")  # receives the folders train, dev and test, and summary.md


def split(knobs: Knobs) -> str:
    """Write the splits and `summary.md`; return the summary. Raises BadSetup if the data cannot be read."""
    try:
        placed, leaks = drop_leaks(place_all(knobs.data))
    except OSError as error:
        raise BadSetup(f"the pairs cannot be read: {error}") from error
    except (ValueError, KeyError) as error:
        raise BadSetup(f"a line of a file in {knobs.data} is not as expected: {error!r}") from error
    placed, repeats = drop_repeats(placed)
    write_splits(placed, knobs.out)
    text = summarize(placed, {"text of a more protected set": leaks, "repeated or contradictory": repeats})
    write_durably(knobs.out / SUMMARY, text)
    return text


# Assigning splits


def place_all(data: Path) -> Placed:
    """Read all pairs and assign each one to a split."""
    judge, reuse = data / "judge", data / "reuse"
    authored = [
        pair
        for file in AUTHORED_FILES
        for group in read_rows(judge / "authored" / f"{file}.jsonl")
        for pair in authored_pairs(group, file)
    ]
    relaxed = [pair for group in read_rows(judge / "authored" / "relaxed.jsonl") for pair in relaxed_pairs(group)]
    real = [real_pair(row) for row in read_rows(judge / "real" / "pairs.jsonl")]
    public = {path.stem: list(public_pairs(read_rows(path))) for path in sorted((judge / "public").glob("*.jsonl"))}
    by_photo = [pair for name in ("cxc_sits", "cxc_sts", "vsr") for pair in public[name]]
    by_text = [pair for name in ("colorswap", "snli_becel", "stsb_captions") for pair in public[name]]
    return [
        *(("dev", caption_pair(row)) for row in read_rows(reuse / "dev.jsonl")),
        *place_by_text([caption_pair(row) for row in read_rows(reuse / "train.jsonl")], dev=0, test=0.1),
        *place_by_text([*authored, *relaxed], dev=0.1, test=0.1),
        *place_by_text(real, dev=0.2, test=0.2, links=texts_by_caller(real, data / "traces")),
        *place_by_photo(by_photo, dev=0.1, test=0.1),
        *place_by_text(by_text, dev=0.05, test=0.05),
        *place_by_text([*public["sick"], *public["winoground_t2i"]], dev=0.5, test=0.5),
    ]


def place_by_text(pairs: list[RelationPair], *, dev: float, test: float, links: Iterable[list[str]] = ()) -> Placed:
    """Assign connected pairs to the same split.

    Pairs are connected if they share a group or a text, or if their texts appear together in `links`.
    """
    components = Components()
    for pair in pairs:
        components.join([f"group {pair.group}", *(f"text {text}" for text in pair.texts)])
    for texts in links:
        components.join([f"text {text}" for text in texts])
    return [(choose_split(components.root(f"group {pair.group}"), dev, test), pair) for pair in pairs]


def place_by_photo(pairs: list[RelationPair], *, dev: float, test: float) -> Placed:
    """Assign each photo to a split, and keep the pairs whose two photos are in the same split.

    These pairs connect nearly all photos, so `place_by_text` would put nearly everything into one split.
    """
    placed = []
    for pair in pairs:
        photos = pair.group.removeprefix("coco:").split("+")
        splits = {choose_split(f"coco:{photo}", dev, test) for photo in photos}
        if len(splits) == 1:
            placed.append((splits.pop(), pair))
    return placed


def texts_by_caller(pairs: list[RelationPair], traces: Path) -> Iterator[list[str]]:
    """For each caller in the traces, the texts of these pairs that they sent: people often edit their own prompts."""
    pair_texts = {text for pair in pairs for text in pair.texts}
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(traces.glob("*.tsv.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            next(lines)  # skip the header
            for line in lines:
                _, caller, prompt, *_ = line.rstrip("\n").split("\t")
                if not caller.startswith("one-") and (text := words_only(prompt)) in pair_texts:
                    texts[path.name, caller].append(text)
    yield from texts.values()


def choose_split(name: str, dev: float, test: float) -> str:
    """Choose a split by the hash of a name; `dev` and `test` are the fractions that go to these splits."""
    digest = hashlib.sha256(f"{SALT}:{name}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < test:
        return "test"
    return "dev" if position < test + dev else "train"


class Components:
    """Groups connected names (union-find). The smallest name of a group is its root."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        """The root of the group that contains this name."""
        self.parent.setdefault(name, name)
        while self.parent[name] != name:
            self.parent[name] = self.parent[self.parent[name]]
            name = self.parent[name]
        return name

    def join(self, names: Iterable[str]) -> None:
        """Merge the groups of these names."""
        roots = sorted({self.root(name) for name in names})
        for root in roots[1:]:
            self.parent[root] = roots[0]


# Leaving out pairs


def drop_leaks(placed: Placed) -> tuple[Placed, Counter[str]]:
    """Leave out pairs that have a text of a more protected split. Also return how many were left out, by source."""
    taken: set[str] = set()
    kept: Placed = []
    dropped: Counter[str] = Counter()
    for rank in range(5):
        candidates = [(name, pair) for name, pair in placed if protection(name, pair) == rank]
        clean = [(name, pair) for name, pair in candidates if taken.isdisjoint(pair.texts)]
        dropped.update(pair.source for _, pair in candidates)
        dropped.subtract(pair.source for _, pair in clean)
        kept += clean
        taken.update(text for _, pair in clean for text in pair.texts)
    return kept, +dropped


def protection(name: str, pair: RelationPair) -> int:
    """How protected a pair is; 0 is the most protected: the given dev set, test, dev, train, evaluation-only sets."""
    if pair.source in EVALUATION_ONLY:
        return 4
    return 0 if is_given(name, pair) else 1 + ("test", "dev", "train").index(name)


def is_given(name: str, pair: RelationPair) -> bool:
    """Check whether the pair is in the older dev set of captions, which must not change."""
    return name == "dev" and pair.source in CHECKED_CAPTIONS


def drop_repeats(placed: Placed) -> tuple[Placed, Counter[str]]:
    """Keep only one copy of repeated pairs. Also return how many pairs were left out, by source.

    If the copies contradict each other, none is kept. A pair of two identical texts is left out as well.
    """
    by_texts: dict[tuple[str, str], Placed] = defaultdict(list)
    for name, pair in placed:
        by_texts[pair.texts].append((name, pair))
    kept: Placed = []
    dropped: Counter[str] = Counter()
    for (text, other), items in by_texts.items():
        agreed = any(all(relation in pair.possible for _, pair in items) for relation in RELATIONS)
        count = len(items) if is_given(*items[0]) else 1 if agreed and text != other else 0
        kept += items[:count]
        dropped.update(pair.source for _, pair in items[count:])
    return kept, dropped


# Files


def write_splits(placed: Placed, out: Path) -> None:
    """Write one file per split and kind of source."""
    lines: dict[Path, list[str]] = defaultdict(list)
    for name, pair in placed:
        lines[out / name / f"{file_name(pair.source)}.jsonl"].append(json.dumps(pair.to_dict(), ensure_ascii=False))
    for path, content in lines.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, "\n".join(content) + "\n")


def file_name(source: str) -> str:
    """The file that the pairs of a source are written to, without its ending."""
    if source in CHECKED_CAPTIONS:
        return "captions"
    return "authored" if source.startswith("authored") else source


def summarize(placed: Placed, dropped: dict[str, Counter[str]]) -> str:
    """Markdown tables that count the pairs and groups of each split, and the pairs that were left out."""
    rows = ["| source | relations | train | dev | test |", "|---|---|---:|---:|---:|"]
    rows += table_rows(Counter(((pair.source, pair.possible), name) for name, pair in placed))
    rows += ["", "| source | groups in train | dev | test |", "|---|---:|---:|---:|"]
    groups = {(pair.source, name, pair.group) for name, pair in placed}
    rows += table_rows(Counter(((source,), name) for source, name, _ in groups))
    for reason, counts in dropped.items():
        rows += ["", f"Left out, {reason}: " + ", ".join(f"{source} {n}" for source, n in sorted(counts.items()))]
    return "\n".join(rows) + "\n"


def table_rows(counts: Counter[tuple[tuple[str, ...], str]]) -> Iterator[str]:
    """Markdown rows with the counts of each split."""
    for key in sorted({key for key, _ in counts}):
        yield "| " + " | ".join([*key, *(str(counts[key, name]) for name in SPLITS)]) + " |"


if __name__ == "__main__":
    print(split(from_arguments(Knobs, __doc__)))
