"""`echo` served by FastMCP under uvicorn: stateless, JSON replies."""

import sys

import uvicorn
from fastmcp import FastMCP

server = FastMCP("peer-fastmcp")


@server.tool(output_schema=None)
async def echo(message: str) -> str:
    """Returns the message"""
    return message


uvicorn.run(
    server.http_app(stateless_http=True, json_response=True),
    host="127.0.0.1",
    port=int(sys.argv[1]),
    loop="uvloop",
    http="httptools",
    access_log=False,
    log_level="warning",
)
