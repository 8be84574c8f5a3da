"""The official Python client uses a running server the way an application would.

    python client.py URL legacy|auto|pinned

Prints a line for each step and exits 0, or the reason to stderr and exits 1.
"""

import asyncio
import logging
import os
import sys
import threading
import time

from mcp import Client, MCPError

MODERN = "2026-07-28"
MODES = {
    "legacy": ("legacy", "2025-11-25"),  # the initialize handshake
    "auto": ("auto", MODERN),  # asks server/discover, would fall back to initialize
    "pinned": (MODERN, MODERN),  # speaks the version at once, asks nothing first
}
OVERALL_TIMEOUT_S = 60
MESSAGES = [
    "",
    'héllo "lane"\n',
    "\\ / \b\f\t\r \0\x1f\x7f </script>",
    "日本語 👩‍👩‍👧 \u2028\U0010ffff",
]
SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def check(holds, what, seen=None):
    if not holds:
        raise AssertionError(f"{what}, got {seen!r}")


def text_of(result, what):
    """The text of a result that is one text block and no error."""
    blocks = result.content
    one_text = len(blocks) == 1 and blocks[0].type == "text"
    check(one_text and not result.is_error, f"{what}: one text block", result)
    return blocks[0].text


async def exercise(client, mode, step):
    version = MODES[mode][1]
    check(client.protocol_version == version, f"version {version}", client.protocol_version)
    if mode == "pinned":
        # A pinned client takes the version on trust, so ask what the server says about it.
        discovered = await client.session.send_discover(MODERN)
        check(MODERN in discovered["supportedVersions"], f"{MODERN} is supported", discovered)
        check("tools" in discovered["capabilities"], "the tools capability", discovered)
    else:
        check(client.server_capabilities.tools is not None, "the tools capability", client.server_capabilities)
    step(f"start {version}")
    if mode == "legacy":
        # The ping of the session: the one of Client warns that 2026-07-28 has none.
        pong = await client.session.send_ping()
        check(pong.model_dump(exclude_none=True) == {}, "an empty ping result", pong)
        step("ping")

    # Listing first also gives the client the output schemas, so it validates structured content itself.
    listed = (await client.list_tools()).tools
    tools = {tool.name: tool for tool in listed}
    for name in ("echo", "add", "sleep", "digest"):
        has_schema = name in tools and tools[name].input_schema.get("type") == "object"
        check(has_schema, f"tool {name} with an inputSchema", tools)
    step("list")

    for message in MESSAGES:
        echoed = text_of(await client.call_tool("echo", {"message": message}), "echo")
        check(echoed == message, f"echo returns {message!r}", echoed)
    step("echo")

    added = await client.call_tool("add", {"a": 2, "b": 40.5})
    text_of(added, "add")
    check(added.structured_content == {"sum": 42.5}, "add sums", added)
    step("add")

    for arguments in ({"text": "abc"}, {"text": "abc", "rounds": 1}):
        digest = text_of(await client.call_tool("digest", arguments), "digest")
        check(digest == SHA256_OF_ABC, "the SHA-256 of abc", digest)
    step("digest")

    # One after the other these take 6 s: half of that leaves room for a busy machine and still shows overlap.
    start = time.monotonic()
    sleeps = await asyncio.gather(*(client.call_tool("sleep", {"ms": 300}) for _ in range(20)))
    elapsed_s = time.monotonic() - start
    for slept in sleeps:
        check(text_of(slept, "sleep") == "slept 300 ms", "each sleep slept", slept)
    check(elapsed_s < 3, "twenty sleeps overlap (under 3 s)", elapsed_s)
    step("twenty sleeps")

    # A bad argument is for the model to correct, so it is a result; an unknown tool is a protocol error.
    for name, arguments, named in (
        ("echo", {"message": 5}, "message"),
        ("echo", {}, "message"),
        ("add", {"a": 1, "b": 2, "c": 3}, "c"),
        ("sleep", {"ms": 60_001}, "ms"),
    ):
        refused = await client.call_tool(name, arguments)
        reason = "\n".join(getattr(block, "text", "") for block in refused.content)
        check(refused.is_error is True and named in reason, f"isError that names {named}", refused)
    step("invalid arguments")

    overflow = await client.call_tool("add", {"a": 1e308, "b": 1e308})
    check(overflow.is_error is True, "isError of a tool that fails", overflow)
    step("failing tool")

    try:
        unknown = await client.call_tool("no-such-tool", {})
    except MCPError as error:
        unknown = error
    check(getattr(unknown, "code", None) == -32602, "protocol error -32602 for an unknown tool", unknown)
    step("unknown tool")

    again = (await client.list_tools(cache_mode="bypass")).tools
    check(again == listed, "the same tools as before the calls", again)
    step("list again")


class Complaints(logging.Handler):
    """The client only logs what fails outside a call, such as a refused DELETE at the end of a session."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{record.name}: {record.getMessage()}")


async def run(url, mode):
    def step(said):
        print(f"python {mode}: {said}", flush=True)

    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    async with Client(url, mode=MODES[mode][0]) as client:
        await exercise(client, mode, step)
    check(complaints.lines == [], "no complaint in the client's log", complaints.lines)
    step("close")


def reasons(error):
    """The errors inside the groups that the client's task groups make of them."""
    if isinstance(error, BaseExceptionGroup):
        return [reason for inner in error.exceptions for reason in reasons(inner)]
    return [f"{type(error).__name__}: {error}"]


def give_up(mode):
    print(f"python {mode}: not finished in {OVERALL_TIMEOUT_S} s", file=sys.stderr, flush=True)
    os._exit(1)


def main():
    if len(sys.argv) != 3 or sys.argv[2] not in MODES:
        sys.exit("usage: python client.py URL legacy|auto|pinned")
    url, mode = sys.argv[1:]
    os.environ["NO_PROXY"] = "*"  # the server is on this machine, whatever proxy the environment names
    # A thread, because a cancelled client still waits for the answer to its DELETE.
    watchdog = threading.Timer(OVERALL_TIMEOUT_S, give_up, (mode,))
    watchdog.daemon = True
    watchdog.start()
    try:
        asyncio.run(run(url, mode))
    except Exception as error:
        sys.exit(f"python {mode}: " + "; ".join(reasons(error)))


if __name__ == "__main__":
    main()
