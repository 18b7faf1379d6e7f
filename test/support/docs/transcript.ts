/**
 * A block of commands and what they print, as in a terminal: `$ ` begins a command, `> ` continues it, all else is output.
 *
 * Output is compared word by word. A number stands for any number, and so do a time, a date, a UUID and a port that a kernel
 * chose; `…` on a line of its own stands for any lines. Spaces are not compared.
 */

export type Step = {
  readonly line: number;
  readonly command: string;
  readonly output: readonly string[];
  /** It goes on while others follow. */
  readonly background: boolean;
};

export function stepsOf(text: string, firstLine: number): Step[] {
  const steps: { line: number; command: string; output: string[] }[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const step = steps.at(-1);
    if (line.startsWith('$ ')) steps.push({ line: firstLine + index, command: line.slice(2), output: [] });
    else if (step === undefined) throw new Error(`line ${firstLine + index}: output before the first command`);
    else if (line.startsWith('> ') && step.output.length === 0) step.command += `\n${line.slice(2)}`;
    else step.output.push(line);
  }
  return steps.map((step) => ({ ...step, background: /[^&]&$/.test(step.command) }));
}

/** First port that a kernel gives to whoever does not ask for one. */
const EPHEMERAL = 32_768;

function commonWord(word: string): string {
  const [, address, port] = /^((?:\d+\.){3}\d+)(?::(\d+))?$/.exec(word) ?? [];
  if (address !== undefined) {
    if (port === undefined) return address;
    return `${address}:${Number(port) < EPHEMERAL ? port : 'PORT'}`;
  }
  if (/^[0-9a-f]{32,}$/.test(word)) return word;
  if (/^[([]?[-+]?\d[\d.,]*(?:ms|µs|s|m\d+s|h\d+m|d\d+h)?[,;:)\]]*$/.test(word)) return word.replace(/\d.*\d|\d/, '0');
  return word;
}

/** A line as it is in each run of a command. */
export function commonLine(line: string): string {
  return (
    line
      .replace(/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, 'UUID')
      .replace(/\b\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'DATE')
      .trim()
      .split(/\s+/)
      .map(commonWord)
      .join(' ')
      // FAST, the last column of a list of flows: the kernel takes a connection over when it has been quiet for an instant.
      .replace(/^(\d+ (?:tcp|udp) .*) (?:yes|-)$/, '$1 FAST')
  );
}

/** Whether output is what was shown. */
export function sameOutput(shown: readonly string[], printed: readonly string[]): boolean {
  const [want, ...rest] = shown;
  if (want === undefined) return printed.length === 0;
  if (want.trim() === '…')
    return Array.from({ length: printed.length + 1 }, (_, skip) => skip).some((skip) =>
      sameOutput(rest, printed.slice(skip)),
    );
  const [have, ...others] = printed;
  return have !== undefined && commonLine(want) === commonLine(have) && sameOutput(rest, others);
}

/** Lines of what a program printed: without those that are empty at its end. */
export function linesOf(printed: string): string[] {
  const text = printed.replaceAll('\r', '').trimEnd();
  return text === '' ? [] : text.split('\n');
}
