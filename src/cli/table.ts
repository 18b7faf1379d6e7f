/** Tables for people: padded columns, two spaces between them, no rules. */

export type Column = { readonly title: string; readonly align: 'left' | 'right' };

/**
 * Text for a terminal. Names come from modules and images of anybody: characters that a terminal obeys are written as escapes, and
 * what changes the direction of text, too.
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code > 0xff ? `\\u{${code.toString(16)}}` : `\\x${code.toString(16).padStart(2, '0')}`;
  });
}

/** The title row and the rows, each ended by a newline. Trailing blanks are cut. */
export function renderTable(columns: readonly Column[], cells: readonly (readonly string[])[]): string {
  const rows = cells.map((row) => row.map(printable));
  const widths = columns.map((column, i) => Math.max(column.title.length, ...rows.map((row) => (row[i] ?? '').length)));
  const line = (row: readonly string[]): string =>
    columns
      .map((column, i) => {
        const cell = row[i] ?? '';
        const width = widths[i] ?? 0;
        return column.align === 'right' ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd();
  return [columns.map((column) => column.title), ...rows].map((row) => `${line(row)}\n`).join('');
}
