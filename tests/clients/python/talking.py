"""A session with examples/talking: whatever else than calling tools the SDK has a method for."""

import asyncio
import re

import mcp_types as types
from check import check, text_of
from mcp import MCPError

PAGE = "book://page"
WAIT_S = 10


class Heard:
    """What the server asks and tells outside the answers to requests."""

    def __init__(self):
        self.elicited = types.ElicitResult(action="accept", content={"name": "Ann"})
        self.logged = []
        self.notifications = asyncio.Queue()

    def handlers(self):
        """The arguments that make a client use them. `log_level` is for 2026-07-28 only."""
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
        check(message.role == "user" and params.max_tokens == 100, "what is sampled", params)
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
    """The protocol's error that this ends with."""
    try:
        return await awaitable
    except MCPError as error:
        return error


async def list_all(client):
    """All pages of the tools, past what the client keeps."""
    tools, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        check(len(page.tools) <= 2, "two on a page", page)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools


async def talking(client, mode, step, heard):
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

    told = text_of(await client.call_tool("ask_name"), "ask_name")
    check(told == "Hello, Ann!", "the name is told", told)
    heard.elicited = types.ElicitResult(action="decline")
    declined = text_of(await client.call_tool("ask_name"), "ask_name")
    check(declined == "No name: decline", "declining is told", declined)
    step("elicitation")

    sampled = text_of(await client.call_tool("ask_model", {"question": "Are you there?"}), "ask_model")
    check(sampled == "parrot says: Are you there? Yes.", "the model is asked", sampled)
    step("sampling")

    roots = text_of(await client.call_tool("ask_roots"), "ask_roots")
    check(roots == "file:///a file:///b", "the roots are told", roots)
    step("roots")

    progress = []

    async def on_progress(done, total, message):
        progress.append((done, total, message))

    if is_legacy:
        await client.set_logging_level("info")
    counted = text_of(await client.call_tool("count", {"to": 3}, progress_callback=on_progress), "count")
    check(counted == "counted to 3", "it counts", counted)
    check(progress == [(number, 3, "counting") for number in (1, 2, 3)], "progress", progress)
    step("progress")
    check(heard.logged == [f"info counter counted {number}" for number in (1, 2, 3)], "what was logged", heard.logged)
    if is_legacy:
        await client.set_logging_level("error")
        await client.call_tool("count", {"to": 1})
        check(len(heard.logged) == 3, "nothing logged below the level", heard.logged)
    step("log")

    # The server would count for a minute, and would not end while it does: the test that runs this watches.
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
        await changes(client, step, heard.next)
        await client.unsubscribe_resource(PAGE)
    else:
        # The 2026 era has a subscription that both are told on.
        async with client.listen(tools_list_changed=True, resource_subscriptions=[PAGE]) as subscription:

            async def next_event():
                event = await asyncio.wait_for(anext(subscription), WAIT_S)
                return getattr(event, "uri", "tools")

            await changes(client, step, next_event)
    # The client ends its subscription when it comes to it, and what was told before may still be on its way.
    await client.call_tool("count", {"to": 2})
    while not heard.notifications.empty():
        heard.notifications.get_nowait()
    await client.call_tool("turn")
    await client.call_tool("count", {"to": 2})
    late = [heard.notifications.get_nowait() for _ in range(heard.notifications.qsize())]
    check(late == [], "nothing is told after unsubscribing", late)
    step("unsubscribe")


async def changes(client, step, next_event):
    page = text_of(await client.call_tool("turn"), "turn")
    updated = await next_event()
    check(updated == PAGE, "the page has changed", updated)
    turned = (await client.read_resource(PAGE, cache_mode="bypass")).contents
    check(turned[0].text == f"This is {page}.", "the new page", turned)
    step("resource updated")

    grown = text_of(await client.call_tool("grow"), "grow")
    changed = await next_event()
    check(changed == "tools", "the list has changed", changed)
    names = [tool.name for tool in await list_all(client)]
    check(grown in names, f"the new tool {grown}", names)
    answered = text_of(await client.call_tool(grown), grown)
    check(answered == "I am new here.", "the new tool answers", answered)
    step("list changed")
