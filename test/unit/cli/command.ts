/** The `kedge` command as people run it, in a directory of its own, against agents in this process. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hosts, ticker } from '../migrate/agents.ts';

/** Runs with a Node of this version. */
export const KEDGE = join(import.meta.dirname, '..', '..', '..', 'src', 'cli', 'kedge.ts');

export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

export class Cli {
  readonly hosts: Hosts;
  /** Where commands run. `ticks.wasm` is there. */
  readonly directory: string;

  private constructor(hosts: Hosts, directory: string) {
    this.hosts = hosts;
    this.directory = directory;
  }

  static async start(): Promise<Cli> {
    const cli = new Cli(await Hosts.start(), mkdtempSync(join(tmpdir(), 'kedge-cli-')));
    writeFileSync(cli.file('ticks.wasm'), ticker());
    return cli;
  }

  file(name: string): string {
    return join(this.directory, name);
  }

  /** Starts a command, for host a unless it says otherwise. */
  start(args: readonly string[]) {
    const child = spawn(process.execPath, [KEDGE, ...args], {
      env: { ...process.env, KEDGE_AGENT: this.hosts.a.socket },
      cwd: this.directory,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const ended = new Promise<Ended>((resolve) => {
      child.once('close', (code) => resolve({ code, stdout, stderr }));
    });
    return { child, ended, printed: () => stdout, complained: () => stderr };
  }

  run(...args: string[]): Promise<Ended> {
    return this.start(args).ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hosts[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true });
  }
}
