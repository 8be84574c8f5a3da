// A session with examples/talking: whatever else than calling tools the SDK has a method for.

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

  // The server puts two on a page. The second SDK walks the pages itself.
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
  const code = mode === 'v1' ? -32002 : -32602; // the second SDK renames what the legacy era called it
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
  const told = textOf(await call('ask_name'), 'ask_name');
  check(told === 'Hello, Ann!', 'the name is told', told);
  answer = { action: 'decline' };
  const declined = textOf(await call('ask_name'), 'ask_name');
  check(declined === 'No name: decline', 'declining is told', declined);
  step('elicitation');

  client.setRequestHandler(kind('sampling/createMessage'), ({ params }) => {
    const [message] = params.messages;
    check(message.role === 'user' && params.maxTokens === 100, 'what is sampled', params);
    const text = `${[message.content].flat()[0].text} Yes.`;
    return { model: 'parrot', role: 'assistant', content: { type: 'text', text }, stopReason: 'endTurn' };
  });
  const sampled = textOf(await call('ask_model', { question: 'Are you there?' }), 'ask_model');
  check(sampled === 'parrot says: Are you there? Yes.', 'the model is asked', sampled);
  step('sampling');

  client.setRequestHandler(kind('roots/list'), () => ({ roots: [{ uri: 'file:///a' }, { uri: 'file:///b' }] }));
  const roots = textOf(await call('ask_roots'), 'ask_roots');
  check(roots === 'file:///a file:///b', 'the roots are told', roots);
  step('roots');

  const logged = [];
  client.setNotificationHandler(kind('notifications/message'), ({ params }) => {
    logged.push(`${params.level} ${params.logger} ${params.data}`);
  });
  if (isLegacy) await client.setLoggingLevel('info');
  const progress = [];
  const counted = await call('count', { to: 3 }, { onprogress: (told) => progress.push(told) });
  check(textOf(counted, 'count') === 'counted to 3', 'it counts', counted);
  const steps = [1, 2, 3].map((number) => ({ progress: number, total: 3, message: 'counting' }));
  check(isDeepStrictEqual(progress, steps), 'progress', progress);
  step('progress');
  const lines = [1, 2, 3].map((number) => `info counter counted ${number}`);
  check(isDeepStrictEqual(logged, lines), 'what was logged', logged);
  if (isLegacy) {
    await client.setLoggingLevel('error');
    await call('count', { to: 1 });
    check(logged.length === 3, 'nothing logged below the level', logged);
  }
  step('log');

  // The server would count for a minute, and would not end while it does: the test that runs this watches.
  const giveUp = new AbortController();
  const cancelled = call('count', { to: 600 }, {
    signal: giveUp.signal,
    onprogress: () => giveUp.abort('enough'),
  }).catch((error) => error);
  check((await cancelled) instanceof Error, 'a cancelled call fails', await cancelled);
  step('cancellation');

  // The 2026 era has a subscription that both are told on.
  const updated = waiting();
  client.setNotificationHandler(kind('notifications/resources/updated'), ({ params }) => updated.tell(params.uri));
  const changed = waiting();
  client.setNotificationHandler(kind('notifications/tools/list_changed'), () => changed.tell('changed'));
  let subscription;
  if (isLegacy) await client.subscribeResource({ uri: PAGE });
  else subscription = await client.listen({ toolsListChanged: true, resourceSubscriptions: [PAGE] });
  const page = textOf(await call('turn'), 'turn');
  check((await updated.next('an update')) === PAGE, 'the page has changed');
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
  // Over HTTP the server hears of it when the stream is closed, which is not waited for.
  await call('count', { to: 2 });
  updated.forget();
  await call('turn');
  await call('count', { to: 2 });
  check(updated.isEmpty(), 'nothing is told after unsubscribing');
  step('unsubscribe');
}

/** All pages of the tools, past what the client keeps. */
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

/** Notifications, to be waited for. */
function waiting() {
  const told = [];
  let wake = () => {};
  const tell = (value) => {
    told.push(value);
    wake();
  };
  const next = async (what) => {
    if (told.length === 0) {
      await new Promise((resolve, reject) => {
        wake = resolve;
        setTimeout(() => reject(new Error(`${what} was not told in ${WAIT_MS} ms`)), WAIT_MS);
      });
    }
    return told.shift();
  };
  return { tell, next, isEmpty: () => told.length === 0, forget: () => told.splice(0) };
}
