/** docs/checklist.md: what is demanded of the wire, by number, and who names these numbers. */

export const STATES = ['done', 'refused', 'not yet'] as const;
export type State = (typeof STATES)[number];

const LINE = /^\| (S\d+) \| [^|]+ \| (done|refused|not yet)(?:: [^|]+)? \|$/gm;

/** State of each number, in the order of the page. Throws when a number has two lines. */
export function statesOf(document: string): ReadonlyMap<string, State> {
  const states = new Map<string, State>();
  for (const [, number = '', word = ''] of document.matchAll(LINE)) {
    if (states.has(number)) throw new Error(`${number} has two lines`);
    const state = STATES.find((each) => each === word);
    if (state !== undefined) states.set(number, state);
  }
  return states;
}

/** Numbers that a text cites: `S12`; and `S1 to S49`, by its ends. */
export function cited(text: string): Set<string> {
  return new Set(text.match(/\bS\d{1,2}\b/g));
}

/** Numbers with which titles of tests begin: 'S16, S18: any translation…' in TypeScript, `fn s43_a_full_device…` in Rust. */
export function named(source: string): Set<string> {
  const titles = [...source.matchAll(/['"`](S\d+(?:,? S\d+)*):/g)].map(([, numbers = '']) => numbers);
  const functions = [...source.matchAll(/#\[test\]\s+fn s(\d+)_/g)].map(([, number = '']) => `S${number}`);
  return new Set([...titles.flatMap((numbers) => [...cited(numbers)]), ...functions]);
}
