"""Errors of the disk are named as such, with the path and the fix."""

import pytest

from disk.disk_errors import explain, is_of_the_disk

ERRORS = {
    "full": (OSError(28, "No space left on device"), "the disk of /data is full: free some space"),
    "full, in a library's words": (RuntimeError("IO Error: No space left on device (os error 28)"), "/data is full"),
    "quota": (OSError(122, "Disk quota exceeded"), "the disk of /data is full"),
    "denied": (PermissionError(13, "Permission denied", "/data/x"), "/data: Permission denied .* owner"),
    "denied, in a library's words": (RuntimeError("Permission denied (os error 13)"), "Permission denied"),
    "read-only": (OSError(30, "Read-only file system"), "mounted read-only"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_the_disk_names_the_path_and_the_fix(name):
    error, text = ERRORS[name]
    assert is_of_the_disk(error)
    with pytest.raises(Exception, match=text):
        raise Exception(explain(error, "/data"))


def test_other_errors_keep_their_words():
    assert (
        not is_of_the_disk(ValueError("not JSON")) and explain(ValueError("not JSON"), "/data") == "/data: not JSON"
    )
