"""Parses a request in linear time, whatever its bytes are.

The regular expressions of Waitress and Werkzeug need quadratic time for some headers, and hold the interpreter
meanwhile: 20 KB would stop all threads for a minute. So headers that could cause that are refused before.
"""

import re

from waitress.parser import HTTPRequestParser, ParsingError

LARGEST_HEADERS = 2**15  # bytes; a prompt of 2,000 characters in the address takes at most 24,000
FIRST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [^ ]+ HTTP/1\.[01] *\r\n")
UNUSUAL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[ \t]{32}")  # control characters, and long runs of blanks


class RequestParser(HTTPRequestParser):  # type: ignore[misc]  # Waitress has no types
    """Waitress' parser, behind checks of the headers."""

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the first line and the headers; raises ParsingError, which is answered with 400."""
        if not FIRST_LINE.match(header_plus):
            raise ParsingError("Start line is invalid")
        if UNUSUAL.search(header_plus):
            raise ParsingError("Control characters or 32 blanks in a row in the headers")
        super().parse_header(header_plus)


class Discarding(HTTPRequestParser):  # type: ignore[misc]
    """Takes all bytes as an empty request, of a client whose connection is being closed."""

    def received(self, data: bytes) -> int:
        """Discard the bytes."""
        self.empty = self.completed = True
        return len(data)
