-- The canonical request: tools/call of echo, revision 2026-07-28. throughput.rs reads these lines too: one assignment a line.
wrk.method="POST"
wrk.path="/mcp"
wrk.headers["Content-Type"]="application/json"
wrk.headers["Accept"]="application/json, text/event-stream"
wrk.headers["MCP-Protocol-Version"]="2026-07-28"
wrk.headers["Mcp-Method"]="tools/call"
wrk.headers["Mcp-Name"]="echo"
wrk.body='{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"hello world"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"wrk","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}'
