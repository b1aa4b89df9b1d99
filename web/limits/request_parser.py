"""Parses a request in linear time, whatever its bytes are.

The regular expressions of Waitress and Werkzeug need quadratic time for some headers, and hold the interpreter
meanwhile: 20 KB would stop all threads for a minute. So headers that could cause that are refused or left out.
"""

import re

from waitress.parser import HTTPRequestParser, ParsingError

LARGEST_HEADERS = 2**15  # bytes; a prompt of 2,000 characters in the address takes at most 24,000
LARGEST_HEADER = 2**13  # bytes of the value of one header
LONGEST_ACCEPT = 1000  # characters; browsers send 150
FIRST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [^ \r\n]+ HTTP/1\.[01] *\r\n")
UNUSUAL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[ \t]{32}|\r\n[ \t]")  # the last: a header of several lines


class RequestParser(HTTPRequestParser):  # type: ignore[misc]  # Waitress has no types
    """Waitress' parser, behind checks of the headers."""

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the first line and the headers; raises ParsingError, which is answered with 400.

        An `Accept` that is too long is left out.
        """
        if not FIRST_LINE.match(header_plus):
            raise ParsingError("Start line is invalid")
        if UNUSUAL.search(header_plus):
            raise ParsingError("Control characters, 32 blanks in a row or a header of several lines")
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # of urllib, for some addresses
            raise ParsingError("Start line is invalid") from error
        finally:
            if self.body_rcv is None:
                self.expect_continue = False  # or Waitress would wait for a body although there is none
        if max(map(len, self.headers.values()), default=0) > LARGEST_HEADER:
            raise ParsingError(f"A header of more than {LARGEST_HEADER} bytes")
        if len(self.headers.get("ACCEPT", "")) > LONGEST_ACCEPT:
            del self.headers["ACCEPT"]


class Discarding(HTTPRequestParser):  # type: ignore[misc]  # Waitress has no types
    """Takes all bytes as an empty request, of a client whose connection is being closed."""

    def received(self, data: bytes) -> int:
        """Discard the bytes."""
        self.empty = self.completed = True
        return len(data)
