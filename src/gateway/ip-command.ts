/** Runs `ip` of iproute2 in the process's network namespace: never through a shell, many lines at once. */
import { spawn } from 'node:child_process';
import { KedgeError } from '../errors.ts';

/** Daemons are often started with a PATH that has no /sbin. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`;

type Done = { readonly code: number; readonly stdout: string; readonly stderr: string };

function runIp(args: readonly string[], input: string): Promise<Done> {
  return new Promise((resolve, reject) => {
    const child = spawn('ip', args, { env: { ...process.env, PATH, LC_ALL: 'C' }, stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', (error: NodeJS.ErrnoException) => {
      const missing = error.code === 'ENOENT';
      const hint = missing ? 'install iproute2: apt-get install iproute2' : error.message;
      reject(new KedgeError('KEDGE_IP_COMMAND_MISSING', `cannot run 'ip' (${error.code ?? 'error'})`, { hint }));
    });
    child.on('close', (code, signal) =>
      resolve({ code: code ?? 1, stdout, stderr: signal === null ? stderr : signal }),
    );
    // `ip -batch` stops reading at the first line that fails.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

/** Carries out lines of `ip -4 -batch`; the first that fails is named in the error, and those after it are not tried. */
export async function ipBatch(lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return;
  const done = await runIp(['-4', '-batch', '-'], `${lines.join('\n')}\n`);
  if (done.code === 0) return;
  const number = /Command failed -:([0-9]+)/.exec(done.stderr)?.[1];
  const line = number === undefined ? undefined : lines[Number(number) - 1];
  const reason = done.stderr.split('\n')[0] ?? '';
  const denied = /not permitted|denied/i.test(reason);
  const options = denied ? { hint: 'needs root, or CAP_NET_ADMIN in this network namespace' } : {};
  throw new KedgeError('KEDGE_ROUTES_FAILED', `ip -4 ${line ?? '-batch'}: ${reason}`, options);
}

/** What `ip -json ARGS` prints. */
export async function ipJson(...args: string[]): Promise<Record<string, unknown>[]> {
  const done = await runIp(['-4', '-json', ...args], '');
  if (done.code !== 0) {
    throw new KedgeError('KEDGE_ROUTES_FAILED', `ip -4 ${args.join(' ')}: ${done.stderr.split('\n')[0] ?? ''}`);
  }
  const text = done.stdout.trim();
  const rows: unknown = text === '' ? [] : JSON.parse(text);
  return Array.isArray(rows) ? (rows as Record<string, unknown>[]) : [];
}
