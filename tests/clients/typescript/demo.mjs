// A session with the demo server: every tool, with every kind of result.

import { inspect, isDeepStrictEqual } from 'node:util';
import { check, textOf } from './check.mjs';

const MESSAGES = [
  '',
  'héllo "lane"\n',
  '\\ / \b\f\t\r \u0000\u001f\u007f </script>',
  '日本語 👩‍👩‍👧 \u2028\u{10ffff}',
];
const SHA256_OF_ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';

export async function demo(client, { ProtocolError, mode, isLegacy, step }) {
  if (isLegacy) {
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

  // In sequence these take 6 s: half of that tolerates a loaded machine and still proves overlap.
  const start = performance.now();
  const sleeps = await Promise.all(Array.from({ length: 20 }, () => call('sleep', { ms: 300 })));
  const elapsedMs = performance.now() - start;
  for (const slept of sleeps) check(textOf(slept, 'sleep') === 'slept 300 ms', 'each sleep slept', slept);
  check(elapsedMs < 3000, 'twenty sleeps overlap (under 3000 ms)', elapsedMs);
  step('twenty sleeps');

  // An invalid argument is a result, which the model can correct; an unknown tool is a protocol error.
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

  // The second client would use its cache.
  const again = await client.listTools(undefined, mode === 'v1' ? undefined : { cacheMode: 'bypass' });
  check(isDeepStrictEqual(again.tools, tools), 'the same tools as before the calls', again.tools);
  step('list again');
}
