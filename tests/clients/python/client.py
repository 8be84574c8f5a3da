"""Drives the official Python client as an application would.

    python client.py demo|talking legacy|auto|pinned URL
    python client.py demo|talking legacy|auto|pinned COMMAND ARGUMENT...

Connects to a URL over HTTP, or starts a command and connects to its standard input and output. Prints one line per step
and exits 0, or prints the error to stderr and exits 1.
"""

import asyncio
import logging
import os
import sys
import threading
import warnings

from check import check
from demo import demo
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPDeprecationWarning
from talking import Recorder, talking

MODERN = "2026-07-28"
MODES = {
    "legacy": ("legacy", "2025-11-25"),  # the initialize handshake
    "auto": ("auto", MODERN),  # sends server/discover; falls back to initialize on failure
    "pinned": (MODERN, MODERN),  # uses the version without negotiation
}
SESSIONS = {"demo": demo, "talking": talking}
OVERALL_TIMEOUT_S = 60


async def start(client, mode, step):
    version = MODES[mode][1]
    check(client.protocol_version == version, f"version {version}", client.protocol_version)
    if mode == "pinned":
        # A pinned client does not check the version, so check it here.
        discovered = await client.session.send_discover(MODERN)
        check(MODERN in discovered["supportedVersions"], f"{MODERN} is supported", discovered)
        check("tools" in discovered["capabilities"], "the tools capability", discovered)
    else:
        check(client.server_capabilities.tools is not None, "the tools capability", client.server_capabilities)
    step(f"start {version}")


class LogCapture(logging.Handler):
    """Collects failures outside calls, which the client only logs, such as a rejected DELETE at the end of a session."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{record.name}: {record.getMessage()}")


async def run(session, mode, target):
    def step(name):
        print(f"python {mode}: {name}", flush=True)

    captured = LogCapture()
    logging.getLogger().addHandler(captured)
    if target[0].startswith("http:"):
        server = target[0]
    else:
        server = StdioServerParameters(command=target[0], args=target[1:], env=dict(os.environ))
    recorder = Recorder()
    handlers = recorder.handlers() if session == "talking" else {}
    async with Client(server, mode=MODES[mode][0], **handlers) as client:
        await start(client, mode, step)
        await SESSIONS[session](client, mode, step, recorder)
    check(captured.lines == [], "no warnings in the log of the client", captured.lines)
    step("close")


def reasons(error):
    """The errors within nested exception groups."""
    if isinstance(error, BaseExceptionGroup):
        return [reason for inner in error.exceptions for reason in reasons(inner)]
    return [f"{type(error).__name__}: {error}"]


def exit_on_timeout(mode):
    print(f"python {mode}: not finished in {OVERALL_TIMEOUT_S} s", file=sys.stderr, flush=True)
    os._exit(1)


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in SESSIONS or sys.argv[2] not in MODES:
        sys.exit("usage: python client.py demo|talking legacy|auto|pinned URL|COMMAND [ARGUMENT...]")
    session, mode, *target = sys.argv[1:]
    # Methods removed in 2026-07-28 are used in the legacy era.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    os.environ["NO_PROXY"] = "*"  # the server is local: ignore the proxy settings of the environment
    # A thread, because a cancelled client still waits for the response to its DELETE.
    watchdog = threading.Timer(OVERALL_TIMEOUT_S, exit_on_timeout, (mode,))
    watchdog.daemon = True
    watchdog.start()
    try:
        asyncio.run(run(session, mode, target))
    except Exception as error:
        sys.exit(f"python {mode}: " + "; ".join(reasons(error)))


if __name__ == "__main__":
    main()
