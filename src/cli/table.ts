/** Tables for people: padded columns, two spaces between them, no rules. */

export type Column = { readonly title: string; readonly align: 'left' | 'right' };

/** The title row and the rows, each ended by a newline. Trailing blanks are cut. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map((column, i) => Math.max(column.title.length, ...rows.map((row) => (row[i] ?? '').length)));
  const line = (cells: readonly string[]): string =>
    columns
      .map((column, i) => {
        const cell = cells[i] ?? '';
        const width = widths[i] ?? 0;
        return column.align === 'right' ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd();
  return [columns.map((column) => column.title), ...rows].map((cells) => `${line(cells)}\n`).join('');
}
