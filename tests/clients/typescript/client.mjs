// The official TypeScript clients use a running server the way an application would.
//
//   node client.mjs URL v1|legacy|auto|pinned
//
// Prints a line for each step and exits 0, or the reason to stderr and exits 1.

import { inspect, isDeepStrictEqual } from 'node:util';

const LEGACY = '2025-11-25';
const MODERN = '2026-07-28';
const MODES = {
  v1: { version: LEGACY }, // the SDK before 2.0, which knows the initialize handshake only
  legacy: { negotiation: 'legacy', version: LEGACY }, // the initialize handshake
  auto: { negotiation: 'auto', version: MODERN }, // asks server/discover, would fall back to initialize
  pinned: { negotiation: { pin: MODERN }, version: MODERN }, // asks server/discover, never falls back
};
const OVERALL_TIMEOUT_MS = 60_000;
const MESSAGES = [
  '',
  'héllo "lane"\n',
  '\\ / \b\f\t\r \u0000\u001f\u007f </script>',
  '日本語 👩‍👩‍👧 \u2028\u{10ffff}',
];
const SHA256_OF_ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';

const [url, mode] = process.argv.slice(2);

const step = (said) => console.log(`typescript ${mode}: ${said}`);

function check(holds, what, seen) {
  if (!holds) throw new Error(`${what}, got ${inspect(seen, { depth: 8 })}`);
}

/** What differs between the SDKs: their classes, and how the negotiated version is asked for. */
async function sdk() {
  if (mode === 'v1') {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    const { McpError } = await import('@modelcontextprotocol/sdk/types.js');
    return { Client, Transport: StreamableHTTPClientTransport, ProtocolError: McpError };
  }
  const { Client, ProtocolError, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  return { Client, Transport: StreamableHTTPClientTransport, ProtocolError };
}

/** The text of a result that is one text block and no error. */
function textOf(result, what) {
  const [block, ...rest] = result.content;
  check(!result.isError && block?.type === 'text' && rest.length === 0, `${what}: one text block`, result);
  return block.text;
}

async function exercise(client, ProtocolError) {
  if (MODES[mode].version === LEGACY) {
    const pong = await client.ping();
    check(isDeepStrictEqual(pong, {}), 'an empty ping result', pong);
    step('ping');
  }

  // Listing first also gives the client the output schemas, so it validates structured content itself.
  const { tools } = await client.listTools();
  for (const name of ['echo', 'add', 'sleep', 'digest']) {
    const tool = tools.find((tool) => tool.name === name);
    check(tool?.inputSchema?.type === 'object', `tool ${name} with an inputSchema`, tools);
  }
  step('list');

  const call = (name, args) => client.callTool({ name, arguments: args });

  for (const message of MESSAGES) {
    const echoed = textOf(await call('echo', { message }), 'echo');
    check(echoed === message, `echo returns ${inspect(message)}`, echoed);
  }
  step('echo');

  const added = await call('add', { a: 2, b: 40.5 });
  textOf(added, 'add');
  check(isDeepStrictEqual(added.structuredContent, { sum: 42.5 }), 'add sums', added);
  step('add');

  for (const args of [{ text: 'abc' }, { text: 'abc', rounds: 1 }]) {
    const digest = textOf(await call('digest', args), 'digest');
    check(digest === SHA256_OF_ABC, 'the SHA-256 of abc', digest);
  }
  step('digest');

  // One after the other these take 6 s: half of that leaves room for a busy machine and still shows overlap.
  const start = performance.now();
  const sleeps = await Promise.all(Array.from({ length: 20 }, () => call('sleep', { ms: 300 })));
  const elapsedMs = performance.now() - start;
  for (const slept of sleeps) check(textOf(slept, 'sleep') === 'slept 300 ms', 'each sleep slept', slept);
  check(elapsedMs < 3000, 'twenty sleeps overlap (under 3000 ms)', elapsedMs);
  step('twenty sleeps');

  // A bad argument is for the model to correct, so it is a result; an unknown tool is a protocol error.
  for (const [name, args, named] of [
    ['echo', { message: 5 }, 'message'],
    ['echo', {}, 'message'],
    ['add', { a: 1, b: 2, c: 3 }, 'c'],
    ['sleep', { ms: 60_001 }, 'ms'],
  ]) {
    const refused = await call(name, args);
    const reason = refused.content.map((block) => block.text ?? '').join('\n');
    check(refused.isError === true && reason.includes(named), `isError that names ${named}`, refused);
  }
  step('invalid arguments');

  const overflow = await call('add', { a: 1e308, b: 1e308 });
  check(overflow.isError === true, 'isError of a tool that fails', overflow);
  step('failing tool');

  const unknown = await call('no-such-tool', {}).catch((error) => error);
  const isInvalidParams = unknown instanceof ProtocolError && unknown.code === -32602;
  check(isInvalidParams, 'protocol error -32602 for an unknown tool', unknown);
  step('unknown tool');

  // The second client would answer this from its cache.
  const again = await client.listTools(undefined, mode === 'v1' ? undefined : { cacheMode: 'bypass' });
  check(isDeepStrictEqual(again.tools, tools), 'the same tools as before the calls', again.tools);
  step('list again');
}

async function main() {
  if (!url || !Object.hasOwn(MODES, mode)) throw new Error('usage: node client.mjs URL v1|legacy|auto|pinned');
  const { Client, Transport, ProtocolError } = await sdk();
  const { negotiation, version } = MODES[mode];
  const options = negotiation ? { versionNegotiation: { mode: negotiation } } : {};
  const client = new Client({ name: 'corelane-client-check', version: '1.0.0' }, options);
  const transport = new Transport(new URL(url));
  // What fails outside a call (the legacy event stream, a reply nobody asked for) reaches only this handler.
  const strayErrors = [];
  client.onerror = (error) => strayErrors.push(error);

  await client.connect(transport);
  const negotiated = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion;
  check(negotiated === version, `version ${version}`, negotiated);
  check(client.getServerCapabilities()?.tools, 'the tools capability', client.getServerCapabilities());
  step(`start ${version}`);
  await exercise(client, ProtocolError);
  await transport.terminateSession(); // close() alone sends no DELETE; without a session this does nothing
  await client.close();
  check(strayErrors.length === 0, 'no error outside a call', strayErrors);
  step('close');
}

/** The messages of an error and of what caused it: `fetch failed` alone says too little. */
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
