"""The official Python client uses a server the way an application would.

    python client.py demo|talking legacy|auto|pinned URL
    python client.py demo|talking legacy|auto|pinned COMMAND ARGUMENT...

A URL is spoken to over HTTP; a command is started, and spoken to over its standard input and output. Prints a line for
each step and exits 0, or the reason to stderr and exits 1.
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
from talking import Heard, talking

MODERN = "2026-07-28"
MODES = {
    "legacy": ("legacy", "2025-11-25"),  # the initialize handshake
    "auto": ("auto", MODERN),  # asks server/discover, would fall back to initialize
    "pinned": (MODERN, MODERN),  # speaks the version at once, asks nothing first
}
SESSIONS = {"demo": demo, "talking": talking}
OVERALL_TIMEOUT_S = 60


async def start(client, mode, step):
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


class Complaints(logging.Handler):
    """The client only logs what fails outside a call, such as a refused DELETE at the end of a session."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{record.name}: {record.getMessage()}")


async def run(session, mode, target):
    def step(said):
        print(f"python {mode}: {said}", flush=True)

    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    if target[0].startswith("http:"):
        server = target[0]
    else:
        server = StdioServerParameters(command=target[0], args=target[1:], env=dict(os.environ))
    heard = Heard()
    handlers = heard.handlers() if session == "talking" else {}
    async with Client(server, mode=MODES[mode][0], **handlers) as client:
        await start(client, mode, step)
        await SESSIONS[session](client, mode, step, heard)
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
    if len(sys.argv) < 4 or sys.argv[1] not in SESSIONS or sys.argv[2] not in MODES:
        sys.exit("usage: python client.py demo|talking legacy|auto|pinned URL|COMMAND [ARGUMENT...]")
    session, mode, *target = sys.argv[1:]
    # What 2026-07-28 has no more is used where it is still there.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    os.environ["NO_PROXY"] = "*"  # the server is on this machine, whatever proxy the environment names
    # A thread, because a cancelled client still waits for the answer to its DELETE.
    watchdog = threading.Timer(OVERALL_TIMEOUT_S, give_up, (mode,))
    watchdog.daemon = True
    watchdog.start()
    try:
        asyncio.run(run(session, mode, target))
    except Exception as error:
        sys.exit(f"python {mode}: " + "; ".join(reasons(error)))


if __name__ == "__main__":
    main()
