"""Small files are written so that a power cut leaves the old or the new one, whole."""

import os
import stat

import pytest

from disk.durable_files import create_durably, create_folder, move_durably, write_durably


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_afterwards(tmp_path, disk_steps):
    folder = tmp_path / "stuff"
    folder.mkdir()
    write_durably(folder / "a", "text")
    (first, part), *others = disk_steps
    assert first == "sync" and part.startswith(".part") and others == [("rename", "a"), ("sync", "stuff")]


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    write_durably(tmp_path / "a", "old")

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_durably(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_only_the_first_of_two_creates_the_file(tmp_path, disk_steps):
    assert create_durably(tmp_path / "a", b"first") and not create_durably(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first" and disk_steps[1] == ("link", "a")


def test_a_secret_is_never_readable_by_others(tmp_path):
    write_durably(tmp_path / "a", "secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_every_new_folder_is_synced_into_the_one_above(tmp_path, disk_steps):
    create_folder(tmp_path / "one" / "two")
    assert [name for _, name in disk_steps] == [tmp_path.name, "one"]
    create_folder(tmp_path / "one" / "two")
    assert len(disk_steps) == 2


def test_all_files_of_a_folder_are_synced_before_it_gets_its_name(tmp_path, disk_steps):
    (tmp_path / "new" / "in").mkdir(parents=True)
    (tmp_path / "new" / "in" / "file").write_text("x")
    move_durably(tmp_path / "new", tmp_path / "final")
    names = [name for _, name in disk_steps]
    assert set(names[:3]) == {"new", "in", "file"} and names[3] == "final" and len(names) == 5
