/**
 * The far end of {@link ../driver.ts}: a process that is told what to do in lines of JSON on its standard input,
 * `{"id": 1, "method": "...", "params": {...}}`, and answers `{"id": 1, "result": ...}` or `{"id": 1, "error": {...}}`.
 * Calls are started in order and may end in any. The end of the input ends the process.
 */
import { createInterface } from 'node:readline';

export type Method = (params: never) => unknown;

interface Call {
  readonly id: number;
  readonly method: string;
  readonly params: never;
}

/** Serves calls until the input ends. What a method throws is the error of its call and nothing more. */
export async function serve(methods: Readonly<Record<string, Method>>): Promise<void> {
  const answer = (value: unknown): void => {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  };
  const perform = async ({ id, method, params }: Call): Promise<void> => {
    try {
      const call = methods[method];
      if (call === undefined) throw new Error(`no method ${method}`);
      answer({ id, result: (await call(params)) ?? null });
    } catch (error) {
      const { message, stack, code } = error as Error & { code?: string };
      answer({ id, error: { message, stack, ...(code === undefined ? {} : { code }) } });
    }
  };
  answer({ ready: true });
  for await (const line of createInterface({ input: process.stdin })) void perform(JSON.parse(line) as Call);
  process.exit(0);
}
