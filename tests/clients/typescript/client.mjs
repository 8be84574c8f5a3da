// Drives the official TypeScript clients as an application would.
//
//   node client.mjs demo|talking v1|legacy|auto|pinned URL
//   node client.mjs demo|talking v1|legacy|auto|pinned COMMAND ARGUMENT...
//
// Connects to a URL over HTTP, or starts a command and connects to its standard input and output. Prints one line per step
// and exits 0, or prints the error to stderr and exits 1.

import { check } from './check.mjs';
import { demo } from './demo.mjs';
import { talking } from './talking.mjs';

const LEGACY = '2025-11-25';
const MODERN = '2026-07-28';
const SESSIONS = { demo, talking };
const MODES = {
  v1: { version: LEGACY }, // the SDK before 2.0, which supports only the initialize handshake
  legacy: { negotiation: 'legacy', version: LEGACY }, // the initialize handshake
  auto: { negotiation: 'auto', version: MODERN }, // sends server/discover; falls back to initialize on failure
  pinned: { negotiation: { pin: MODERN }, version: MODERN }, // sends server/discover; never falls back
};
const CAPABILITIES = { elicitation: { form: {} }, sampling: {}, roots: {} };
const OVERALL_TIMEOUT_MS = 60_000;

const [session, mode, target, ...args] = process.argv.slice(2);

const step = (name) => console.log(`typescript ${mode}: ${name}`);

/**
 * Differences between the SDKs: their classes, and the key of a handler, which is a method name or a schema.
 */
async function sdk() {
  if (mode === 'v1') {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    const types = await import('@modelcontextprotocol/sdk/types.js');
    const kinds = {
      'elicitation/create': types.ElicitRequestSchema,
      'sampling/createMessage': types.CreateMessageRequestSchema,
      'roots/list': types.ListRootsRequestSchema,
      'notifications/message': types.LoggingMessageNotificationSchema,
      'notifications/resources/updated': types.ResourceUpdatedNotificationSchema,
      'notifications/tools/list_changed': types.ToolListChangedNotificationSchema,
    };
    const kind = (method) => kinds[method];
    return { Client, StdioClientTransport, StreamableHTTPClientTransport, ProtocolError: types.McpError, kind };
  }
  const { Client, ProtocolError, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
  const kind = (method) => method;
  return { Client, StdioClientTransport, StreamableHTTPClientTransport, ProtocolError, kind };
}

async function main() {
  if (!target || !Object.hasOwn(SESSIONS, session) || !Object.hasOwn(MODES, mode)) {
    throw new Error('usage: node client.mjs demo|talking v1|legacy|auto|pinned URL|COMMAND [ARGUMENT...]');
  }
  const { Client, StdioClientTransport, StreamableHTTPClientTransport, ProtocolError, kind } = await sdk();
  const { negotiation, version } = MODES[mode];
  const options = negotiation ? { versionNegotiation: { mode: negotiation } } : {};
  if (session === 'talking') options.capabilities = CAPABILITIES;
  const client = new Client({ name: 'corelane-client-check', version: '1.0.0' }, options);
  const transport = target.startsWith('http:')
    ? new StreamableHTTPClientTransport(new URL(target))
    : new StdioClientTransport({ command: target, args, env: process.env });
  // Failures outside calls (the legacy event stream, unsolicited responses) reach only this handler.
  const strayErrors = [];
  client.onerror = (error) => strayErrors.push(error);

  await client.connect(transport);
  // The first SDK passes the version to its HTTP transport only; over stdio it checks the version itself.
  const negotiated = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion ?? version;
  check(negotiated === version, `version ${version}`, negotiated);
  check(client.getServerCapabilities()?.tools, 'the tools capability', client.getServerCapabilities());
  step(`start ${version}`);
  const isLegacy = version === LEGACY;
  await SESSIONS[session](client, { ProtocolError, kind, mode, isLegacy, step });
  await transport.terminateSession?.(); // close() alone sends no DELETE; without a session this does nothing
  await client.close();
  check(strayErrors.length === 0, 'no error outside a call', strayErrors);
  step('close');
}

/** The messages of an error and its causes: `fetch failed` alone is not sufficient. */
function reasonOf(error) {
  const messages = [];
  for (let at = error; at; at = at.cause) messages.push(`${at.name}: ${at.message || at.code}`);
  return messages.join(': ');
}

const fail = (error) => {
  console.error(`typescript ${mode}: ${reasonOf(error)}`);
  process.exit(1);
};
setTimeout(() => fail(new Error(`not finished in ${OVERALL_TIMEOUT_MS} ms`)), OVERALL_TIMEOUT_MS);
await main().catch(fail);
process.exit(0);
