// A session with examples/talking: every SDK method other than tool calls.

import { isDeepStrictEqual } from 'node:util';
import { check, textOf } from './check.mjs';

const PAGE = 'book://page';
const WAIT_MS = 10_000;

export async function talking(client, { ProtocolError, kind, mode, isLegacy, step }) {
  const call = (name, args = {}, options = undefined) => {
    const meta = isLegacy ? {} : { _meta: { 'io.modelcontextprotocol/logLevel': 'info' } };
    const params = { name, arguments: args, ...meta };
    return mode === 'v1' ? client.callTool(params, undefined, options) : client.callTool(params, options);
  };
  if (isLegacy) {
    check(isDeepStrictEqual(await client.ping(), {}), 'an empty ping result');
    step('ping');
  }
  check(client.getInstructions() === 'Ask it to ask you.', 'the instructions', client.getInstructions());

  // Pages have two tools. The second SDK requests all pages itself.
  const tools = await listAll(client, mode);
  const names = tools.map((tool) => tool.name).sort();
  const expected = ['ask_model', 'ask_name', 'ask_roots', 'count', 'grow', 'turn'];
  check(isDeepStrictEqual(names.filter((name) => !name.startsWith('grown_')), expected), 'all six tools', names);
  const unknown = await client.listTools({ cursor: 'no-such-cursor' }).catch((error) => error);
  check(unknown instanceof ProtocolError && unknown.code === -32602, '-32602 for a wrong cursor', unknown);
  step('pages');

  const { resources } = await client.listResources();
  check(resources.length === 1 && resources[0].uri === PAGE, 'the page', resources);
  const { resourceTemplates } = await client.listResourceTemplates();
  check(resourceTemplates[0]?.uriTemplate === 'book://chapter/{name}', 'the template', resourceTemplates);
  const { contents } = await client.readResource({ uri: PAGE });
  check(/^This is page \d+\.$/.test(contents[0].text) && contents[0].uri === PAGE, 'the page read', contents);
  const chapter = await client.readResource({ uri: 'book://chapter/end' });
  check(chapter.contents[0].text === 'The chapter called end.', 'the chapter read', chapter);
  const missing = await client.readResource({ uri: 'book://nothing' }).catch((error) => error);
  const code = mode === 'v1' ? -32002 : -32602; // the second SDK replaces the legacy code
  check(missing instanceof ProtocolError && missing.code === code, `${code} for no such resource`, missing);
  step('resources');

  const { prompts } = await client.listPrompts();
  const named = prompts[0]?.arguments?.map(({ name, required }) => [name, required ?? false]);
  check(isDeepStrictEqual(named, [['name', true], ['language', false]]), 'the prompt', prompts);
  const greeting = await client.getPrompt({ name: 'greet', arguments: { name: 'Ann', language: 'Finnish' } });
  check(greeting.messages[0]?.content.text === 'Greet Ann in Finnish.', 'the prompt filled in', greeting);
  const unnamed = await client.getPrompt({ name: 'greet', arguments: {} }).catch((error) => error);
  check(unnamed instanceof ProtocolError && unnamed.code === -32602, '-32602 for a missing argument', unnamed);
  step('prompts');

  const languages = await client.complete({
    ref: { type: 'ref/prompt', name: 'greet' },
    argument: { name: 'language', value: 'E' },
    context: { arguments: { name: 'Ann' } },
  });
  check(isDeepStrictEqual(languages.completion.values, ['English', 'Esperanto']), 'completed', languages);
  const chapters = await client.complete({
    ref: { type: 'ref/resource', uri: 'book://chapter/{name}' },
    argument: { name: 'name', value: 'mid' },
  });
  check(isDeepStrictEqual(chapters.completion.values, ['middle']), 'a variable completed', chapters);
  step('completion');

  let answer = { action: 'accept', content: { name: 'Ann' } };
  client.setRequestHandler(kind('elicitation/create'), ({ params }) => {
    check(params.message === 'What is your name?', 'the question', params);
    check(params.requestedSchema.properties.name.type === 'string', 'the form', params);
    return answer;
  });
  const greeted = textOf(await call('ask_name'), 'ask_name');
  check(greeted === 'Hello, Ann!', 'a greeting with the name', greeted);
  answer = { action: 'decline' };
  const declined = textOf(await call('ask_name'), 'ask_name');
  check(declined === 'No name: decline', 'the declined answer', declined);
  step('elicitation');

  client.setRequestHandler(kind('sampling/createMessage'), ({ params }) => {
    const [message] = params.messages;
    check(message.role === 'user' && params.maxTokens === 100, 'the sampling request', params);
    const text = `${[message.content].flat()[0].text} Yes.`;
    return { model: 'parrot', role: 'assistant', content: { type: 'text', text }, stopReason: 'endTurn' };
  });
  const sampled = textOf(await call('ask_model', { question: 'Are you there?' }), 'ask_model');
  check(sampled === 'parrot says: Are you there? Yes.', 'the sampled text', sampled);
  step('sampling');

  client.setRequestHandler(kind('roots/list'), () => ({ roots: [{ uri: 'file:///a' }, { uri: 'file:///b' }] }));
  const roots = textOf(await call('ask_roots'), 'ask_roots');
  check(roots === 'file:///a file:///b', 'the roots', roots);
  step('roots');

  const logged = [];
  client.setNotificationHandler(kind('notifications/message'), ({ params }) => {
    logged.push(`${params.level} ${params.logger} ${params.data}`);
  });
  if (isLegacy) await client.setLoggingLevel('info');
  const progress = [];
  const counted = await call('count', { to: 3 }, { onprogress: (value) => progress.push(value) });
  check(textOf(counted, 'count') === 'counted to 3', 'the count', counted);
  const steps = [1, 2, 3].map((number) => ({ progress: number, total: 3, message: 'counting' }));
  check(isDeepStrictEqual(progress, steps), 'progress', progress);
  step('progress');
  const lines = [1, 2, 3].map((number) => `info counter counted ${number}`);
  check(isDeepStrictEqual(logged, lines), 'the log messages', logged);
  if (isLegacy) {
    await client.setLoggingLevel('error');
    await call('count', { to: 1 });
    check(logged.length === 3, 'nothing logged below the level', logged);
  }
  step('log');

  // Uncancelled, the call would take a minute and delay the exit of the server, which the caller checks.
  const abort = new AbortController();
  const cancelled = call('count', { to: 600 }, {
    signal: abort.signal,
    onprogress: () => abort.abort('enough'),
  }).catch((error) => error);
  check((await cancelled) instanceof Error, 'a cancelled call fails', await cancelled);
  step('cancellation');

  // In the 2026 era one subscription receives both.
  const updated = waiting();
  client.setNotificationHandler(kind('notifications/resources/updated'), ({ params }) => updated.push(params.uri));
  const changed = waiting();
  client.setNotificationHandler(kind('notifications/tools/list_changed'), () => changed.push('changed'));
  let subscription;
  if (isLegacy) await client.subscribeResource({ uri: PAGE });
  else subscription = await client.listen({ toolsListChanged: true, resourceSubscriptions: [PAGE] });
  const page = textOf(await call('turn'), 'turn');
  check((await updated.next('an update')) === PAGE, 'an update of the page');
  const turned = await client.readResource({ uri: PAGE }, mode === 'v1' ? undefined : { cacheMode: 'bypass' });
  check(turned.contents[0].text === `This is ${page}.`, 'the new page', turned);
  step('resource updated');

  const grown = textOf(await call('grow'), 'grow');
  await changed.next('a changed list');
  const more = await listAll(client, mode);
  check(more.some((tool) => tool.name === grown), `the new tool ${grown}`, more);
  check(textOf(await call(grown), grown) === 'I am new here.', 'the new tool answers');
  step('list changed');

  if (isLegacy) await client.unsubscribeResource({ uri: PAGE });
  else await subscription.close();
  // Over HTTP the server detects the closed stream asynchronously.
  await call('count', { to: 2 });
  updated.clear();
  await call('turn');
  await call('count', { to: 2 });
  check(updated.isEmpty(), 'no notification after unsubscribing');
  step('unsubscribe');
}

/** All pages of the tool list, bypassing the cache of the client. */
async function listAll(client, mode) {
  if (mode !== 'v1') return (await client.listTools(undefined, { cacheMode: 'bypass' })).tools;
  const tools = [];
  for (let cursor; ; ) {
    const page = await client.listTools(cursor ? { cursor } : undefined);
    check(page.tools.length <= 2, 'two on a page', page);
    tools.push(...page.tools);
    cursor = page.nextCursor;
    if (!cursor) return tools;
  }
}

/** A queue of notifications that can be awaited. */
function waiting() {
  const queue = [];
  let wake = () => {};
  const push = (value) => {
    queue.push(value);
    wake();
  };
  const next = async (what) => {
    if (queue.length === 0) {
      await new Promise((resolve, reject) => {
        wake = resolve;
        setTimeout(() => reject(new Error(`${what} was not received within ${WAIT_MS} ms`)), WAIT_MS);
      });
    }
    return queue.shift();
  };
  return { push, next, isEmpty: () => queue.length === 0, clear: () => queue.splice(0) };
}
