/** Source files as trees of text, and what the rules of the architecture ask of one file. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseSync } from 'oxc-parser';

/** Texts by path, relative to the project and with slashes. A fixture is a literal map, the project is read from disk. */
export type Tree = ReadonlyMap<string, string>;

/** All files below `folder` whose names end in one of these ways. */
export function readTree(project: string, folder: string, ends: readonly string[] = ['.ts']): Tree {
  const names = readdirSync(join(project, folder), { recursive: true, encoding: 'utf8' });
  const paths = names.filter((name) => ends.some((end) => name.endsWith(end))).map((name) => `${folder}/${name}`);
  return new Map(paths.sort().map((path) => [path, readFileSync(join(project, path), 'utf8')]));
}

/** A node of the syntax tree (ESTree with TypeScript's nodes), seen as what every node has. */
export interface Node {
  readonly type: string;
  readonly start: number;
  readonly [field: string]: unknown;
}

export function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

/** A place in a file and what was found there. */
export interface Found {
  readonly line: number;
  readonly text: string;
}

/** One parsed file. */
export class Source {
  readonly path: string;
  readonly #text: string;
  readonly #program: Node;

  /** Throws when the text is not TypeScript. */
  constructor(path: string, text: string) {
    const { program, errors } = parseSync(path, text);
    if (errors[0] !== undefined) throw new Error(`${path}: ${errors[0].message}`);
    if (!isNode(program)) throw new Error(`${path}: the parser gave no program`);
    this.path = path;
    this.#text = text;
    this.#program = program;
  }

  lineOf(node: Node): number {
    return this.#text.slice(0, node.start).split('\n').length;
  }

  /** Calls `visit` for every node, parents first, with the parent and the name of the field that holds the node. */
  walk(visit: (node: Node, parent: Node | undefined, field: string) => void): void {
    const enter = (node: Node, parent: Node | undefined, within: string): void => {
      visit(node, parent, within);
      for (const [field, value] of Object.entries(node)) {
        for (const child of Array.isArray(value) ? (value as unknown[]) : [value]) {
          if (isNode(child)) enter(child, node, field);
        }
      }
    };
    enter(this.#program, undefined, '');
  }

  /** What the file imports or exports from elsewhere, types and `import()` of a literal included. */
  imports(): Found[] {
    const found: Found[] = [];
    this.walk((node) => {
      const { source } = node;
      if (isNode(source) && source.type === 'Literal' && typeof source['value'] === 'string') {
        found.push({ line: this.lineOf(node), text: source['value'] });
      }
    });
    return found;
  }

  /** Identifiers that stand for a variable (not a property or a key), so a global or something that shadows one. */
  variables(): Found[] {
    const found: Found[] = [];
    this.walk((node, parent, field) => {
      if (node.type !== 'Identifier' || typeof node['name'] !== 'string') return;
      const isProperty = field === 'property' && parent?.['computed'] === false;
      const isKey = field === 'key' && parent?.['computed'] === false && parent['shorthand'] !== true;
      if (!isProperty && !isKey) found.push({ line: this.lineOf(node), text: node['name'] });
    });
    return found;
  }
}
