/**
 * Modules of a Rust crate as files that name each other. `use` trees and paths that begin with `crate` or `super` are read, as rustfmt
 * writes them; a `mod.rs` is left out, which names its children and may be named by them.
 */
import { posix } from 'node:path';
import { circles } from './circles.ts';
import type { Tree } from './source.ts';

const ROOTED = /\b(crate|super(?:::super)*)::(?=[\w{])/g;

/** The paths of a `use` tree, or the path that code names: `a::{b, c::d}` is `a::b` and `a::c::d`. */
function paths(text: string): string[][] {
  const done: string[][] = [];
  const open: string[][] = [];
  let path: string[] = [];
  for (const [token] of text.matchAll(/\w+|[{},;]|::|\s+|[^]/g)) {
    if (/^\w+$/.test(token)) path.push(token);
    else if (token === '{') open.push([...path]);
    else if (token === ',' || token === '}') {
      done.push(path);
      const before = token === ',' ? open.at(-1) : open.pop();
      if (before === undefined) return done;
      path = [...before];
      if (open.length === 0) return done;
    } else if (token !== '::' && (open.length === 0 || !/^\s/.test(token))) break;
  }
  done.push(path);
  return done;
}

/** Circles among the files of a crate whose root is `root`. */
export function rustCircles(tree: Tree, root: string): string[] {
  const targets = new Map<string, string[]>();
  for (const [file, text] of tree) {
    if (file.endsWith('/mod.rs') || file === `${root}/lib.rs`) continue;
    const code = text.replaceAll(/\/\/.*/g, '');
    const named = new Set<string>();
    for (const match of code.matchAll(ROOTED)) {
      const ups = match[1] === 'crate' ? undefined : (match[1] ?? '').split('::').length;
      // The parent of `a/b.rs` is the folder `a`.
      const from = ups === undefined ? root : posix.join(file, ...Array.from({ length: ups }, () => '..'));
      for (const path of paths(code.slice(match.index + match[0].length))) {
        const names = path.map((_, index) => `${posix.join(from, ...path.slice(0, index + 1))}.rs`);
        const target = names.find((name) => tree.has(name));
        if (target !== undefined) named.add(target);
      }
    }
    targets.set(file, [...named]);
  }
  return circles(targets);
}
