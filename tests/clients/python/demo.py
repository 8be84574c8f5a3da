"""A session with the demo server: every tool, with every kind of result."""

import asyncio
import time

from check import check, text_of
from mcp import MCPError

MESSAGES = [
    "",
    'héllo "lane"\n',
    "\\ / \b\f\t\r \0\x1f\x7f </script>",
    "日本語 👩‍👩‍👧 \u2028\U0010ffff",
]
SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


async def demo(client, mode, step, _recorder):
    if mode == "legacy":
        # The ping of the session, because the ping of Client warns that 2026-07-28 has none.
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

    # In sequence these take 6 s: half of that tolerates a loaded machine and still proves overlap.
    start = time.monotonic()
    sleeps = await asyncio.gather(*(client.call_tool("sleep", {"ms": 300}) for _ in range(20)))
    elapsed_s = time.monotonic() - start
    for slept in sleeps:
        check(text_of(slept, "sleep") == "slept 300 ms", "each sleep slept", slept)
    check(elapsed_s < 3, "twenty sleeps overlap (under 3 s)", elapsed_s)
    step("twenty sleeps")

    # An invalid argument is a result, which the model can correct; an unknown tool is a protocol error.
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
