"""Which messages are kept."""

from __future__ import annotations

from thor_async.cli.output.first_messages import FirstMessages


def test_the_first_rows_keep_their_latest_message_whatever_the_order() -> None:
    messages = FirstMessages()
    for row in reversed(range(200)):
        messages.add(row, f"early {row}")
    for row in range(100, 200):
        messages.add(row, "late")
    messages.add(5, "latest")
    messages.add(6, "")
    kept = [row for row in range(200) if messages.find(row)]
    assert kept == [*range(6), *range(7, 64)]
    assert messages.find(5) == "latest"
