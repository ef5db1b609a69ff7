"""Text for terminals, and JSON lines that are safe to show on one."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from thor_async.cli.output.printable import encode_line, printable


def test_what_is_not_printable_is_escaped() -> None:
    assert printable("Z\xfcrich \U0001f50c") == "Z\xfcrich \U0001f50c"
    assert printable("a\x1b[2J\x9b\x7f\r\u202e\xa0") == r"a\x1b[2J\x9b\x7f\r\u202e\xa0"


@given(st.text())
def test_a_line_has_only_what_a_terminal_prints(text: str) -> None:
    line = encode_line({text: text})
    assert line.endswith(b"}\n")
    assert line.decode()[:-1].isprintable()
    assert msgspec.json.decode(line) == {text: text}


def test_printable_text_is_left() -> None:
    assert encode_line("Z\xfcrich \U0001f50c") == '"Z\xfcrich \U0001f50c"\n'.encode()
