/**
 * What the tests of the documents see of a Markdown file: blocks of text that is not prose, comments that say what is to be done
 * with them, links, and parts that a program writes.
 *
 * A block of commands has the language `console` and, in the comment before it, the terminal it is typed in:
 *
 *     <!-- run: host A -->            every command must end with exit code 0 and print what the block shows
 *     <!-- run: host A, exit 1 -->    the last command must end with that code
 *     <!-- file: gateway.toml -->     the block is written to a file where all terminals are
 *     <!-- begin NAME --> … <!-- end NAME -->    written by a program
 */

export type Block = {
  /** Line of the first line of text, from 1. */
  readonly line: number;
  /** What follows the fence; undefined for a block that is only indented. */
  readonly language: string | undefined;
  readonly text: string;
  readonly directive: Directive | undefined;
};

export type Directive =
  | { readonly kind: 'run'; readonly terminal: string; readonly exit: number }
  | { readonly kind: 'file'; readonly name: string };

const COMMENT = /^<!-- (run|file): (.+?)(?:, exit (\d+))? -->$/;

function parseDirective(line: string): Directive | undefined {
  const [, kind, what = '', exit] = COMMENT.exec(line) ?? [];
  if (kind === 'run') return { kind, terminal: what, exit: Number(exit ?? 0) };
  return kind === 'file' && exit === undefined ? { kind, name: what } : undefined;
}

/** All blocks of a document: fenced ones, and those that are indented by four columns or more (not in a list or a table). */
export function blocksOf(markdown: string): Block[] {
  const lines = markdown.split('\n');
  const blocks: Block[] = [];
  let before = '';
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? '';
    const fence = /^(`{3,})(.*)$/.exec(line);
    const start = at;
    if (fence !== null) {
      for (at++; at < lines.length && lines[at] !== fence[1]; at++);
      if (at === lines.length) throw new Error(`line ${start + 1}: a fence that is not closed`);
      const language = (fence[2] ?? '').trim();
      const text = lines.slice(start + 1, at).join('\n');
      blocks.push({ line: start + 2, language, text, directive: parseDirective(before) });
    } else if (line.startsWith('    ') && (lines[at - 1] ?? '') === '') {
      while (at + 1 < lines.length && /^( {4}|$)/.test(lines[at + 1] ?? '')) at++;
      const text = lines.slice(start, at + 1).map((each) => each.slice(4));
      blocks.push({ line: start + 1, language: undefined, text: text.join('\n').trimEnd(), directive: undefined });
    }
    before = lines[at] ?? '';
  }
  return blocks;
}

/** The lines between two markers. Throws when they are not there exactly once. */
export function generated(markdown: string, name: string): string {
  const [before, text, ...more] = markdown.split(new RegExp(`^<!-- (?:begin|end) ${name} -->\\n`, 'm'));
  if (before === undefined || text === undefined || more.length !== 1)
    throw new Error(`expected one <!-- begin ${name} --> and one <!-- end ${name} -->`);
  return text;
}

/** The document with other lines between two markers. */
export function withGenerated(markdown: string, name: string, text: string): string {
  const old = generated(markdown, name);
  const begin = `<!-- begin ${name} -->\n`;
  const at = markdown.indexOf(begin) + begin.length;
  return markdown.slice(0, at) + text + markdown.slice(at + old.length);
}

/** Text outside blocks, where links and `code` stand. */
export function proseOf(markdown: string): string {
  const inBlocks = new Set<number>();
  for (const { line, text } of blocksOf(markdown))
    for (let i = 0; i < text.split('\n').length; i++) inBlocks.add(line + i);
  return markdown
    .split('\n')
    .filter((_, i) => !inBlocks.has(i + 1))
    .join('\n');
}

/** Targets of links to files of this project, without what follows a `#`. */
export function linksOf(markdown: string): string[] {
  const targets = [...proseOf(markdown).matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? '');
  return targets.filter((target) => !/^[a-z]+:|^#/.test(target)).map((target) => target.replace(/#.*/, ''));
}

/** Everything in `backticks`. */
export function codeOf(markdown: string): string[] {
  return [...proseOf(markdown).matchAll(/`([^`\n]+)`/g)].map((match) => match[1] ?? '');
}
