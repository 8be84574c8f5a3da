"""Assertions of the sessions."""


def check(holds, what, seen=None):
    if not holds:
        raise AssertionError(f"{what}, got {seen!r}")


def text_of(result, what):
    """The text of a successful result with one text block."""
    blocks = result.content
    one_text = len(blocks) == 1 and blocks[0].type == "text"
    check(one_text and not result.is_error, f"{what}: one text block", result)
    return blocks[0].text
