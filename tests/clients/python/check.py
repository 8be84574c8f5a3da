"""What the sessions are held against."""


def check(holds, what, seen=None):
    if not holds:
        raise AssertionError(f"{what}, got {seen!r}")


def text_of(result, what):
    """The text of a result that is one text block and no error."""
    blocks = result.content
    one_text = len(blocks) == 1 and blocks[0].type == "text"
    check(one_text and not result.is_error, f"{what}: one text block", result)
    return blocks[0].text
