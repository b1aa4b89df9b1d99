"""Reads picture files from outside: uploads, training pictures, and our own files when users send them back.

Any fault in a file raises BadPicture, whose message says what the file is and what to do.
`kinds` names a file's format, `containers` splits files into chunks, `exif_tags` and `file_texts` read metadata
without decoding pixels, and `pixels` decodes.
"""

from .file_texts import read_texts, read_xmp
from .kinds import TRAINING, UPLOADS, find_kind
from .pixels import read_pixels

__all__ = ["TRAINING", "UPLOADS", "find_kind", "read_pixels", "read_texts", "read_xmp"]
