"""Stores for the bytes of pictures: a folder, or a bucket of an S3-compatible server."""

from pathlib import Path
from urllib.parse import urlsplit

from memo.errors import BadSetup

from .checked import CheckedStore, is_whole
from .folder import FolderStore
from .port import PNG, Store

__all__ = ["PNG", "CheckedStore", "FolderStore", "Store", "is_whole", "open_store"]


def open_store(url: str, *, access_key: str | None = None, secret_key: str | None = None) -> Store:
    """The store at `file:FOLDER` or `s3://BUCKET/PREFIX?endpoint=URL&region=R`; raises BadSetup for other URLs."""
    parts = urlsplit(url)
    if parts.scheme == "file" and (parts.netloc or parts.path):
        return FolderStore(Path(parts.netloc + parts.path))
    if parts.scheme == "s3" and parts.netloc:
        try:
            from .s3 import open_s3
        except ImportError as error:
            raise BadSetup(f"the store {url!r} needs boto3: pip install 'memoaized[s3]'") from error
        return open_s3(url, access_key=access_key, secret_key=secret_key)
    raise BadSetup(f"the store {url!r} is neither file:FOLDER nor s3://BUCKET/PREFIX?endpoint=URL")
