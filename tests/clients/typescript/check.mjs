// Assertions of the sessions.

import { inspect } from 'node:util';

export function check(holds, what, seen) {
  if (!holds) throw new Error(`${what}, got ${inspect(seen, { depth: 8 })}`);
}

/** The text of a successful result with one text block. */
export function textOf(result, what) {
  const [block, ...rest] = result.content;
  check(!result.isError && block?.type === 'text' && rest.length === 0, `${what}: one text block`, result);
  return block.text;
}
