// The official TypeScript client uses a running server the way an application would.
//
//   node client.mjs URL legacy|auto|pinned
//
// Prints `ok typescript MODE N checks` and exits 0, or the reason to stderr and exits 1.

import { inspect, isDeepStrictEqual } from 'node:util';
import { Client, ProtocolError, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const MODERN = '2026-07-28';
const MODES = {
  legacy: { negotiation: 'legacy', version: '2025-11-25' }, // the initialize handshake
  auto: { negotiation: 'auto', version: MODERN }, // asks server/discover, would fall back to initialize
  pinned: { negotiation: { pin: MODERN }, version: MODERN }, // asks server/discover, never falls back
};
const OVERALL_TIMEOUT_MS = 60_000;

let checks = 0;

function check(holds, what, seen) {
  if (!holds) throw new Error(`${what}, got ${inspect(seen, { depth: 8 })}`);
  checks += 1;
}

/** The text of a result that is one text block and no error. */
function textOf(result, what) {
  const [block, ...rest] = result.content;
  check(!result.isError && block?.type === 'text' && rest.length === 0, `${what}: one text block`, result);
  return block.text;
}

async function exercise(client, mode) {
  const { version } = MODES[mode];
  const negotiated = client.getNegotiatedProtocolVersion();
  check(negotiated === version, `version ${version}`, negotiated);
  if (mode === 'legacy') {
    const pong = await client.ping();
    check(isDeepStrictEqual(pong, {}), 'an empty ping result', pong);
  }

  // Listing first also gives the client the output schemas, so it validates structured content itself.
  const { tools } = await client.listTools();
  for (const name of ['echo', 'add', 'sleep', 'digest']) {
    const tool = tools.find((tool) => tool.name === name);
    check(tool?.inputSchema?.type === 'object', `tool ${name} with an inputSchema`, tools);
  }

  const call = (name, args) => client.callTool({ name, arguments: args });

  const message = 'héllo "lane"\n';
  const echoed = textOf(await call('echo', { message }), 'echo');
  check(echoed === message, 'echo returns its message', echoed);

  const added = await call('add', { a: 2, b: 40.5 });
  textOf(added, 'add');
  check(isDeepStrictEqual(added.structuredContent, { sum: 42.5 }), 'add sums', added);

  textOf(await call('sleep', { ms: 50 }), 'sleep');

  const sha256 = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
  for (const args of [{ text: 'abc' }, { text: 'abc', rounds: 1 }]) {
    const digest = textOf(await call('digest', args), 'digest');
    check(digest === sha256, 'the SHA-256 of abc', digest);
  }

  // One after the other these take 6 s: half of that leaves room for a busy machine and still shows overlap.
  const start = performance.now();
  const sleeps = await Promise.all(Array.from({ length: 20 }, () => call('sleep', { ms: 300 })));
  const elapsedMs = performance.now() - start;
  for (const slept of sleeps) textOf(slept, 'a concurrent sleep');
  check(elapsedMs < 3000, 'twenty sleeps overlap (under 3000 ms)', elapsedMs);

  // A bad argument is for the model to correct, so it is a result; an unknown tool is a protocol error.
  const refused = await call('echo', { message: 5 });
  const reason = refused.content.map((block) => block.text ?? '').join('\n');
  check(refused.isError === true && reason.includes('message'), 'isError that names the argument', refused);

  const unknown = await call('no-such-tool', {}).catch((error) => error);
  const isInvalidParams = unknown instanceof ProtocolError && unknown.code === -32602;
  check(isInvalidParams, 'protocol error -32602 for an unknown tool', unknown);
}

async function main(url, mode) {
  if (!url || !Object.hasOwn(MODES, mode)) throw new Error('usage: node client.mjs URL legacy|auto|pinned');

  const client = new Client(
    { name: 'corelane-client-check', version: '1.0.0' },
    { versionNegotiation: { mode: MODES[mode].negotiation } },
  );
  const transport = new StreamableHTTPClientTransport(new URL(url));
  // What fails outside a call (the legacy event stream, a reply nobody asked for) reaches only this handler.
  const strayErrors = [];
  client.onerror = (error) => strayErrors.push(error);

  await client.connect(transport);
  await exercise(client, mode);
  await transport.terminateSession(); // close() alone sends no DELETE; without a session this does nothing
  await client.close();
  check(strayErrors.length === 0, 'no error outside a call', strayErrors);
}

/** The messages of an error and of what caused it: `fetch failed` alone says too little. */
function reasonOf(error) {
  const messages = [];
  for (let at = error; at; at = at.cause) messages.push(`${at.name}: ${at.message || at.code}`);
  return messages.join(': ');
}

const [url, mode] = process.argv.slice(2);
const fail = (error) => {
  console.error(`typescript ${mode} after ${checks} checks: ${reasonOf(error)}`);
  process.exit(1);
};
setTimeout(() => fail(new Error(`not finished in ${OVERALL_TIMEOUT_MS} ms`)), OVERALL_TIMEOUT_MS);
await main(url, mode).catch(fail);
console.log(`ok typescript ${mode} ${checks} checks`);
process.exit(0);
