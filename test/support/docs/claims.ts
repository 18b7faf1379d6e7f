/** What documents claim without showing it done: that files, targets of make, commands and their flags exist. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tryRun } from '../process.ts';
import { PROJECT } from '../topology.ts';
import { blocksOf, codeOf, linksOf, proseOf } from './markdown.ts';

export type Document = { readonly name: string; readonly text: string };

/** Documents by their path in the project: README.md, ARCHITECTURE.md and docs/. */
export function readDocuments(): Document[] {
  const names = ['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', ...globSync('docs/*.md', { cwd: PROJECT }).toSorted()];
  return names.map((name) => ({ name, text: readFileSync(join(PROJECT, name), 'utf8') }));
}

/** Names that are made by the build or while a program runs. */
const MADE = /^(build|dist|node_modules)\/|^demo\/report\.json$|\.node$|^native\/target/;

const IN_PROJECT = /^(?:\.ci|bench|bin|demo|docs|examples|native|netns-scripts|scripts|src|test)\/[\w./{},*-]*$/;

/** Links and `paths` that lead nowhere. */
export function missingFiles({ name, text }: Document): string[] {
  const links = linksOf(text).filter((target) => !existsSync(join(PROJECT, dirname(name), target)));
  const paths = codeOf(text).filter((code) => IN_PROJECT.test(code) && !MADE.test(code));
  const missing = paths.filter((path) => globSync(path, { cwd: PROJECT }).length === 0);
  return [...links.map((link) => `${name}: no ${link}`), ...missing.map((path) => `${name}: no ${path}`)];
}

/** Programs of the project that a document tells of: `make TARGET` and `bin/node FILE`, in prose or in a block that is not typed. */
export function mentioned({ text }: Document): string[] {
  const blocks = blocksOf(text).filter(({ directive }) => directive === undefined);
  const parts = [proseOf(text), ...blocks.map((block) => block.text)];
  const named = parts.flatMap((part) => [
    ...part.matchAll(/(?:^|[`'"]| {4})(make [a-z][\w-]*|bin\/node [\w./-]+\.ts)/gm),
  ]);
  return named.map((match) => match[1] ?? '');
}

/** `make NAME` of which there is no such target. */
export function missingTargets(document: Document): string[] {
  const makefile = readFileSync(join(PROJECT, 'Makefile'), 'utf8');
  const targets = new Set([...makefile.matchAll(/^([a-z][\w-]*):/gm)].map((match) => `make ${match[1]}`));
  return mentioned(document)
    .filter((command) => command.startsWith('make ') && !targets.has(command))
    .map((command) => `${document.name}: no ${command}`);
}

/** First words of lines that are commands. */
const COMMAND =
  /^(?:\$ |(?:sudo |\.\/)?(?:kedge|gateway|make|ip|curl|nc|socat|clang\S*|npm|node|bin\/\S+|\S+\.sh)(?: |$))/;
const SYNOPSIS = /^(kedge|gateway) [a-z]/;

/** Commands that are shown, but in a form in which no test runs them. A synopsis or a target of make may stand in an indented block. */
export function unrunnable({ name, text }: Document): string[] {
  return blocksOf(text).flatMap(({ line, language, text: block, directive }) => {
    if (language === 'console')
      return directive?.kind === 'run' ? [] : [`${name}:${line}: a console block without <!-- run: TERMINAL -->`];
    if (directive?.kind === 'run') return [`${name}:${line}: only a console block can be run`];
    if (language === undefined) {
      const lines = block.split('\n').filter((each) => COMMAND.test(each));
      const allowed = lines.every((each) => SYNOPSIS.test(each) || /^make [\w-]+(?: |$)/.test(each));
      return allowed ? [] : [`${name}:${line}: commands belong into a console block`];
    }
    if (/^(?:sh|bash|shell|)$/.test(language)) return [`${name}:${line}: commands belong into a console block`];
    return [];
  });
}

/** Words and flags of a synopsis: `gateway flows list [--peer ADDRESS]` is the command `gateway flows list`, with `--peer`. */
export function parseSynopsis(line: string): {
  readonly command: readonly string[];
  readonly flags: readonly string[];
} {
  const words = line.split(/\s+/);
  const end = words.findIndex((word) => !/^[a-z]+$/.test(word));
  const flags = [...line.matchAll(/(?<![\w-])(--?[a-z][\w-]*)/g)].map((match) => match[1] ?? '');
  return { command: end < 0 ? words : words.slice(0, end), flags };
}

/** Every synopsis in the indented blocks of a document. */
export function synopsesOf({ text }: Document): string[] {
  const indented = blocksOf(text).filter(({ language }) => language === undefined);
  return indented.flatMap((block) => block.text.split('\n')).filter((line) => SYNOPSIS.test(line));
}

/** What `--help` of the commands does not know. */
export async function unknownInSynopses(documents: readonly Document[]): Promise<string[]> {
  const wrong: string[] = [];
  const asked = new Map<string, ReturnType<typeof tryRun>>();
  for (const document of documents)
    for (const line of synopsesOf(document)) {
      const { command, flags } = parseSynopsis(line);
      const [program = '', ...words] = command;
      const name = command.join(' ');
      const help = asked.get(name) ?? tryRun([join(PROJECT, 'bin', program), ...words, '--help']);
      asked.set(name, help);
      const { code, stdout } = await help;
      const usage = stdout.split('\n').find((each) => each.includes(name));
      if (code !== 0 || usage === undefined) wrong.push(`${document.name}: no command ${name}`);
      else
        for (const flag of flags)
          if (!new RegExp(`(?<![\\w-])${flag}(?![\\w-])`).test(stdout))
            wrong.push(`${document.name}: no flag ${flag} in: ${line}`);
    }
  return wrong;
}
