/** A verdict for people. */
import { STACK_EXHAUSTED } from '../../engine/traps.ts';
import { functionNames } from '../../engine/wasm/names.ts';
import type { Difference } from '../../verify/difference.ts';
import type { Divergence, End, Verdict } from '../../verify/verdict.ts';
import { printable, renderTable } from '../table.ts';

export type Report = Verdict & {
  readonly module: string;
  readonly engines: readonly { readonly name: string; readonly version: string }[];
  readonly policy: string;
  readonly stride: number;
  readonly seconds: number;
};

/** Differences that are listed; memory alone may have many. */
const SHOWN = 16;

export function describeVerdict(report: Report, module: Uint8Array): string {
  const { engines, points, calls, end, divergence, nan, seconds, policy } = report;
  const names = engines.map(({ name }) => name).join(' and ');
  const time = `${seconds.toFixed(1)} s`;
  const notes = nan === null ? '' : `note: NaNs had other bits from point ${nan} on; they count as equal\n`;
  if (divergence !== null) return describeDivergence(report, divergence, functionNames(module)) + notes;
  const counts = `${points} points (${policy}), ${calls} host calls replayed, ${time}`;
  return `equal: ${names} did the same in ${report.module}\n${describeEnd(end)}${counts}\n${notes}`;
}

function describeEnd(end: End | null): string {
  if (end === null) return '';
  if (end.kind === 'limit') return 'stopped at the limit: ';
  return end.kind === 'exited' ? `both exited with code ${end.code}: ` : `both trapped (${end.message}): `;
}

function describeDivergence(
  { engines, seconds, policy }: Report,
  { point, calls, place, differences, unseen }: Divergence,
  names: ReadonlyMap<number, string>,
): string {
  const named = (index: number): string =>
    printable(names.has(index) ? `${index} (${names.get(index)})` : String(index));
  const where =
    place === null
      ? 'before any code had run\n'
      : `after function ${named(place.function)}, offset 0x${place.offset.toString(16)}: ${place.instruction}${place.source === null ? '' : ` (${printable(place.source)})`}\n`;
  const [first = '', second = ''] = engines.map(({ name }) => name.toUpperCase());
  const table = renderTable(
    ['WHAT', first, second].map((title) => ({ title, align: 'left' as const })),
    differences.slice(0, SHOWN).map((difference) => [what(difference, named), difference.first, difference.second]),
  );
  const hidden = differences.length - SHOWN;
  return [
    `diverged at point ${point} (${policy}), after ${calls} host calls, ${seconds.toFixed(1)} s\n`,
    where,
    table,
    hidden > 0 ? `and ${hidden} more\n` : '',
    differences.some(({ nan }) => nan)
      ? 'note: NaNs whose bits WebAssembly leaves open to a degree; perhaps nobody is wrong\n'
      : '',
    differences.some((difference) => `${difference.first} ${difference.second}`.includes(STACK_EXHAUSTED))
      ? 'note: how deep a guest may recurse is not the same on all engines\n'
      : '',
    unseen > 0 ? `note: ${unseen} points before it were not compared; a smaller --stride does\n` : '',
  ].join('');
}

function what(difference: Difference, named: (index: number) => string): string {
  const { kind, index, address, element } = difference;
  const of = difference.function === undefined ? '' : ` of function ${named(difference.function)}`;
  const at = address === undefined ? '' : ` 0x${address.toString(16)}`;
  const entry = element === undefined ? '' : ` element ${element}`;
  return `${kind.replaceAll('-', ' ')}${index === undefined ? '' : ` ${index}`}${entry}${at}${of}`;
}
