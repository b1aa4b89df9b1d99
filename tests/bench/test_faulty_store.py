"""The store of `bench.chaos` behaves like S3, and fails as it is told."""

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from bench.fleet.faulty_store import Fault, FaultyStore, serve_faulty_store
from memo import Unavailable
from memo.store import CheckedStore, Store, open_store

NAME = "ab/one.png"


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


PNG = png("red")


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FaultyStore, Store]]:
    monkeypatch.setattr("memo.store.s3.CONFLICT_WAITS", (0, 0))
    with serve_faulty_store() as (faulty, settings):
        yield faulty, CheckedStore(open_store(settings["MEMO_STORE"], access_key="a", secret_key="b"))


def test_without_a_fault_it_keeps_the_first_object_of_a_name(stores: tuple[FaultyStore, Store]) -> None:
    _, store = stores
    assert store.put(NAME, PNG) and not store.put(NAME, png("blue"))
    assert store.get(NAME) == PNG and store.tail(NAME, 4) == PNG[-4:] and list(store.names("ab/")) == [NAME]
    store.delete(NAME)
    assert not store.exists(NAME) and list(store.names()) == []


@pytest.mark.parametrize("fault", [Fault.AWAY, Fault.CONFLICT, Fault.HALF])
def test_no_failing_store_is_trusted_and_afterwards_the_picture_is_stored_whole(
    stores: tuple[FaultyStore, Store], fault: Fault
) -> None:
    faulty, store = stores
    store.put("ab/zero.png", PNG)
    for _ in range(2):  # every second half is answered as a success
        faulty.fault = fault
        with pytest.raises(Unavailable):
            store.put(NAME, PNG)
    faulty.fault = Fault.NONE
    assert not store.exists(NAME) and store.put(NAME, PNG) and store.get(NAME) == PNG
