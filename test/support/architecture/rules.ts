/**
 * The rules of the architecture as functions from a tree of sources to a list of violations (`path:line: what and why`).
 *
 * The folders of `src` are layers; an import may only point down the list, `import type` and `import()` included.
 */
import { posix } from 'node:path';
import { circles } from './circles.ts';
import { Source, type Node, type Tree } from './source.ts';

/** From the top to the bottom. */
export const LAYERS = [
  'cli',
  'migrate',
  'guest',
  'image',
  'verify',
  'wasi',
  'wasi-sock',
  'engine',
  'gateway',
  'native.ts',
  'rewrite',
  'schema.ts',
  'errors.ts',
  'version.ts',
] as const;

/** The loader of the addon, the one thing outside `src` that `src` imports, and who may. */
const ADDON = 'native/index.js';
const ADDON_USERS = new Set(['native.ts', 'wasi', 'wasi-sock', 'engine', 'gateway', 'guest']);

/** Globals that reach a clock, randomness, the system or another thread. */
const IMPURE = new Set(
  `AbortSignal Atomics BroadcastChannel Buffer Bun Date Deno EventSource FinalizationRegistry Function Intl MessageChannel
  MessagePort Temporal WeakRef WebSocket Worker clearImmediate clearInterval clearTimeout console crypto eval fetch global
  globalThis localStorage navigator performance process queueMicrotask require setImmediate setInterval setTimeout
  structuredClone`.split(/\s+/),
);

interface Arrow {
  readonly from: string;
  readonly line: number;
  /** A path of the project, or the name of a package. */
  readonly to: string;
  readonly isPackage: boolean;
}

/** The first name below `src`: a folder, or a file that lies there directly. */
function layerOf(path: string): string {
  return path.split('/')[1] ?? '';
}

function parse(tree: Tree): Source[] {
  return [...tree].map(([path, text]) => new Source(path, text));
}

function arrows(tree: Tree): Arrow[] {
  return parse(tree).flatMap((source) =>
    source.imports().map(({ line, text }) => {
      const isPackage = !/^[./]/.test(text);
      const to = isPackage ? text : posix.join(posix.dirname(source.path), text);
      return { from: source.path, line, to, isPackage };
    }),
  );
}

/** Folders and files directly in `src` that are no layer. */
export function unlisted(tree: Tree): string[] {
  const listed = new Set<string>(LAYERS);
  const names = new Set([...tree.keys()].map(layerOf));
  return [...names].filter((name) => !listed.has(name)).map((name) => `src/${name}: not in the list of layers`);
}

/** Imports that point up, leave `src`, or name a file that is not there. */
export function upwards(tree: Tree): string[] {
  const rank = new Map<string, number>(LAYERS.map((name, index) => [name, index]));
  const violations: string[] = [];
  for (const { from, line, to, isPackage } of arrows(tree)) {
    const at = `${from}:${line}`;
    const [source, target] = [layerOf(from), layerOf(to)];
    if (isPackage) continue;
    if (source === 'rewrite' && target !== 'rewrite') {
      violations.push(`${at}: src/rewrite stands alone and imports ${to}`);
    } else if (to === ADDON) {
      if (!ADDON_USERS.has(source)) violations.push(`${at}: ${source} may not use the addon`);
    } else if (!tree.has(to)) {
      violations.push(`${at}: ${to} is not a source file below src`);
    } else if ((rank.get(target) ?? -1) < (rank.get(source) ?? -1)) {
      violations.push(`${at}: ${source} is below ${target} and imports ${to}`);
    }
  }
  return violations;
}

/** Circles of imports, each once: `a.ts > b.ts > a.ts`. */
export function cycles(tree: Tree): string[] {
  const targets = new Map<string, string[]>();
  for (const { from, to } of arrows(tree)) {
    if (tree.has(to)) targets.set(from, [...(targets.get(from) ?? []), to]);
  }
  return circles(targets);
}

function isMathRandom(node: Node): boolean {
  if (node.type !== 'MemberExpression') return false;
  const { object, property } = node as Node & { object: Node; property: Node };
  return object['name'] === 'Math' && (property['name'] === 'random' || property['value'] === 'random');
}

/** What makes files of `folder` more than functions of their arguments: packages, clocks, randomness, I/O, `import()`. */
export function impure(tree: Tree, folder: string): string[] {
  const violations: string[] = [];
  for (const source of parse(tree)) {
    if (!source.path.startsWith(`${folder}/`)) continue;
    for (const { line, text } of source.imports()) {
      if (!text.startsWith('.')) violations.push(`${source.path}:${line}: imports ${text}`);
    }
    for (const { line, text } of source.variables()) {
      if (IMPURE.has(text)) violations.push(`${source.path}:${line}: uses ${text}`);
    }
    source.walk((node) => {
      const what =
        node.type === 'ImportExpression'
          ? 'import()'
          : node.type === 'MetaProperty' && (node['meta'] as Node)['name'] === 'import'
            ? 'import.meta'
            : node.type === 'AwaitExpression'
              ? 'await'
              : isMathRandom(node)
                ? 'Math.random'
                : undefined;
      if (what !== undefined) violations.push(`${source.path}:${source.lineOf(node)}: uses ${what}`);
    });
  }
  return violations;
}

/** Files of more than `limit` lines. */
export function long(tree: Tree, limit: number): string[] {
  return [...tree].flatMap(([path, text]) => {
    const lines = text.replace(/\n$/, '').split('\n').length;
    return lines > limit ? [`${path}: ${lines} lines are more than ${limit}`] : [];
  });
}

/** Non-null assertions, except of an element (`column[slot]!`): there the compiler cannot know, and a check would cost a branch. */
export function assertions(tree: Tree): string[] {
  const violations: string[] = [];
  for (const source of parse(tree)) {
    source.walk((node) => {
      if (node.type !== 'TSNonNullExpression') return;
      const { expression } = node as Node & { expression: Node };
      if (expression.type === 'MemberExpression' && expression['computed'] === true) return;
      violations.push(`${source.path}:${source.lineOf(node)}: asserts non-null where it could check`);
    });
  }
  return violations;
}
