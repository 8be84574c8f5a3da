// `echo` served by the TypeScript SDK v2 on node's HTTP server, composed as in its documentation.

import { createServer } from 'node:http';
import { localhostHostValidation, localhostOriginValidation, toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { z } from 'zod';

const port = Number(process.argv[2] ?? process.env.PORT);
// Created outside the factory, because the SDK calls the factory for every request.
const inputSchema = z.strictObject({ message: z.string() });

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: 'peer-typescript', version: '0.0.0' });
  server.registerTool('echo', { description: 'Returns the message', inputSchema }, ({ message }) => ({
    content: [{ type: 'text', text: message }],
  }));
  return server;
});
const serve = toNodeHandler(handler);
const hostIsLocal = localhostHostValidation();
const originIsLocal = localhostOriginValidation();

createServer((request, response) => {
  if (!hostIsLocal(request, response) || !originIsLocal(request, response)) return;
  if (request.url === '/mcp') return serve(request, response);
  response.writeHead(404).end();
}).listen(port, '127.0.0.1');
