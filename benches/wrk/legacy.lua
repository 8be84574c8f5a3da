-- The same call in revision 2025-11-25. throughput.rs reads these lines too: one assignment a line.
wrk.method="POST"
wrk.path="/mcp"
wrk.headers["Content-Type"]="application/json"
wrk.headers["Accept"]="application/json, text/event-stream"
wrk.headers["MCP-Protocol-Version"]="2025-11-25"
wrk.body='{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"hello world"}}}'
