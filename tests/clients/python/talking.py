"""A session with examples/talking: every SDK method other than tool calls."""

import asyncio
import re

import mcp_types as types
from check import check, text_of
from mcp import MCPError

PAGE = "book://page"
WAIT_S = 10


class Recorder:
    """Answers the requests of the server, and records its notifications."""

    def __init__(self):
        self.elicited = types.ElicitResult(action="accept", content={"name": "Ann"})
        self.logged = []
        self.notifications = asyncio.Queue()

    def handlers(self):
        """The client arguments that install them. `log_level` applies to 2026-07-28 only."""
        return {
            "elicitation_callback": self.elicit,
            "sampling_callback": self.sample,
            "list_roots_callback": self.roots,
            "logging_callback": self.log,
            "log_level": "info",
            "message_handler": self.notify,
        }

    async def elicit(self, _context, params):
        check(params.message == "What is your name?", "the question", params)
        check(params.requested_schema["properties"]["name"]["type"] == "string", "the form", params)
        return self.elicited

    async def sample(self, _context, params):
        message = params.messages[0]
        check(message.role == "user" and params.max_tokens == 100, "the sampling request", params)
        text = f"{message.content.text} Yes."
        content = types.TextContent(type="text", text=text)
        return types.CreateMessageResult(role="assistant", content=content, model="parrot", stop_reason="endTurn")

    async def roots(self, _context):
        return types.ListRootsResult(roots=[types.Root(uri="file:///a"), types.Root(uri="file:///b")])

    async def log(self, params):
        self.logged.append(f"{params.level} {params.logger} {params.data}")

    async def notify(self, message):
        if isinstance(message, types.ResourceUpdatedNotification):
            self.notifications.put_nowait(str(message.params.uri))
        elif isinstance(message, types.ToolListChangedNotification):
            self.notifications.put_nowait("tools")

    async def next(self):
        return await asyncio.wait_for(self.notifications.get(), WAIT_S)


async def failure(awaitable):
    """The JSON-RPC error of a request, or its result."""
    try:
        return await awaitable
    except MCPError as error:
        return error


async def list_all(client):
    """All pages of the tool list, bypassing the cache of the client."""
    tools, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        check(len(page.tools) <= 2, "two on a page", page)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools


async def talking(client, mode, step, recorder):
    is_legacy = mode == "legacy"
    if is_legacy:
        pong = await client.session.send_ping()
        check(pong.model_dump(exclude_none=True) == {}, "an empty ping result", pong)
        step("ping")
    if mode != "pinned":
        check(client.instructions == "Ask it to ask you.", "the instructions", client.instructions)

    names = sorted(tool.name for tool in await list_all(client))
    names = [name for name in names if not name.startswith("grown_")]
    check(names == ["ask_model", "ask_name", "ask_roots", "count", "grow", "turn"], "all six tools", names)
    unknown = await failure(client.list_tools(cursor="no-such-cursor"))
    check(getattr(unknown, "code", None) == -32602, "-32602 for a wrong cursor", unknown)
    step("pages")

    resources = (await client.list_resources()).resources
    check([str(resource.uri) for resource in resources] == [PAGE], "the page", resources)
    templates = (await client.list_resource_templates()).resource_templates
    check([template.uri_template for template in templates] == ["book://chapter/{name}"], "the template", templates)
    read = (await client.read_resource(PAGE)).contents
    check(re.fullmatch(r"This is page \d+\.", read[0].text) is not None, "the page read", read)
    chapter = (await client.read_resource("book://chapter/end")).contents
    check(chapter[0].text == "The chapter called end.", "the chapter read", chapter)
    missing = await failure(client.read_resource("book://nothing"))
    code = -32002 if is_legacy else -32602
    check(getattr(missing, "code", None) == code, f"{code} for no such resource", missing)
    step("resources")

    prompts = (await client.list_prompts()).prompts
    named = [(argument.name, argument.required or False) for argument in prompts[0].arguments]
    check(named == [("name", True), ("language", False)], "the prompt", prompts)
    greeting = (await client.get_prompt("greet", {"name": "Ann", "language": "Finnish"})).messages
    check(greeting[0].content.text == "Greet Ann in Finnish.", "the prompt filled in", greeting)
    unnamed = await failure(client.get_prompt("greet", {}))
    check(getattr(unnamed, "code", None) == -32602, "-32602 for a missing argument", unnamed)
    step("prompts")

    prompt = types.PromptReference(type="ref/prompt", name="greet")
    languages = (await client.complete(prompt, {"name": "language", "value": "E"}, {"name": "Ann"})).completion
    check(languages.values == ["English", "Esperanto"], "completed", languages)
    template = types.ResourceTemplateReference(type="ref/resource", uri="book://chapter/{name}")
    chapters = (await client.complete(template, {"name": "name", "value": "mid"})).completion
    check(chapters.values == ["middle"], "a variable completed", chapters)
    step("completion")

    greeting = text_of(await client.call_tool("ask_name"), "ask_name")
    check(greeting == "Hello, Ann!", "a greeting with the name", greeting)
    recorder.elicited = types.ElicitResult(action="decline")
    declined = text_of(await client.call_tool("ask_name"), "ask_name")
    check(declined == "No name: decline", "the declined answer", declined)
    step("elicitation")

    sampled = text_of(await client.call_tool("ask_model", {"question": "Are you there?"}), "ask_model")
    check(sampled == "parrot says: Are you there? Yes.", "the sampled text", sampled)
    step("sampling")

    roots = text_of(await client.call_tool("ask_roots"), "ask_roots")
    check(roots == "file:///a file:///b", "the roots", roots)
    step("roots")

    progress = []

    async def on_progress(done, total, message):
        progress.append((done, total, message))

    if is_legacy:
        await client.set_logging_level("info")
    counted = text_of(await client.call_tool("count", {"to": 3}, progress_callback=on_progress), "count")
    check(counted == "counted to 3", "the count", counted)
    check(progress == [(number, 3, "counting") for number in (1, 2, 3)], "progress", progress)
    step("progress")
    check(recorder.logged == [f"info counter counted {number}" for number in (1, 2, 3)], "the log messages", recorder.logged)
    if is_legacy:
        await client.set_logging_level("error")
        await client.call_tool("count", {"to": 1})
        check(len(recorder.logged) == 3, "nothing logged below the level", recorder.logged)
    step("log")

    # Uncancelled, the call would take a minute and delay the exit of the server, which the caller checks.
    has_begun = asyncio.Event()

    async def on_first(_done, _total, _message):
        has_begun.set()

    call = asyncio.create_task(client.call_tool("count", {"to": 600}, progress_callback=on_first))
    await asyncio.wait_for(has_begun.wait(), WAIT_S)
    call.cancel()
    [ended] = await asyncio.gather(call, return_exceptions=True)
    check(isinstance(ended, asyncio.CancelledError), "a cancelled call ends", ended)
    step("cancellation")

    if is_legacy:
        await client.subscribe_resource(PAGE)
        await changes(client, step, recorder.next)
        await client.unsubscribe_resource(PAGE)
    else:
        # In the 2026 era one subscription receives both.
        async with client.listen(tools_list_changed=True, resource_subscriptions=[PAGE]) as subscription:

            async def next_event():
                event = await asyncio.wait_for(anext(subscription), WAIT_S)
                return getattr(event, "uri", "tools")

            await changes(client, step, next_event)
    # The client closes its subscription asynchronously, and earlier notifications may still be in transit.
    await client.call_tool("count", {"to": 2})
    while not recorder.notifications.empty():
        recorder.notifications.get_nowait()
    await client.call_tool("turn")
    await client.call_tool("count", {"to": 2})
    late = [recorder.notifications.get_nowait() for _ in range(recorder.notifications.qsize())]
    check(late == [], "no notification after unsubscribing", late)
    step("unsubscribe")


async def changes(client, step, next_event):
    page = text_of(await client.call_tool("turn"), "turn")
    updated = await next_event()
    check(updated == PAGE, "an update of the page", updated)
    turned = (await client.read_resource(PAGE, cache_mode="bypass")).contents
    check(turned[0].text == f"This is {page}.", "the new page", turned)
    step("resource updated")

    grown = text_of(await client.call_tool("grow"), "grow")
    changed = await next_event()
    check(changed == "tools", "a change of the tool list", changed)
    names = [tool.name for tool in await list_all(client)]
    check(grown in names, f"the new tool {grown}", names)
    answered = text_of(await client.call_tool(grown), grown)
    check(answered == "I am new here.", "the new tool answers", answered)
    step("list changed")
