/** What `kedge verify` does; apart from its flags, because it loads the engines. */
import { basename } from 'node:path';
import type { CommandContext } from '@stricli/core';
import { engineOf, isEngineName } from '../../engine/engines.ts';
import type { EngineName } from '../../engine/engines.ts';
import { parseIpv4 } from '../../rewrite/numbers.ts';
import { runJob, type Progress } from '../../verify/job.ts';
import { toJson } from '../format.ts';
import { usageError } from '../run-app.ts';
import { setExitCode } from './exit-code.ts';
import { readModule } from './module-file.ts';
import type { VerifyFlags } from './verify-flags.ts';
import { describeVerdict } from './verify-report.ts';

/** A run that takes longer tells how far it is, so often; milliseconds. */
const TELL = 5000;

function engineName(name: string): EngineName {
  if (isEngineName(name)) return name;
  throw usageError(`no engine is called ${name}; kedge engines lists them`);
}

export async function verifyModule(
  this: CommandContext,
  flags: VerifyFlags,
  path: string,
  ...args: readonly string[]
): Promise<void> {
  const { points: policy = 'instruction', stride, limit, dir = [], env = [], quiet, output } = flags;
  const engines = [engineName(flags.engines[0]), engineName(flags.engines[1])] as const;
  const address = parseIpv4(flags.address);
  if (address === undefined) throw usageError(`"${flags.address}" is not an IPv4 address`);
  const module = await readModule(path);
  const { stderr, stdout } = this.process;
  const began = performance.now();
  let told = began;
  const tell = ({ points, calls }: Progress): void => {
    const now = performance.now();
    if (quiet || now - told < TELL) return;
    told = now;
    stderr.write(`kedge verify: ${points} points, ${calls} host calls, ${((now - began) / 1000).toFixed(0)} s\n`);
  };
  const job = {
    module,
    engines,
    policy,
    stride,
    ...(limit === undefined ? {} : { limit }),
    args: [basename(path), ...args],
    environ: env.map(([name, value]) => `${name}=${value}`),
    preopens: dir.map(({ host, guest }) => ({ hostPath: host, guestPath: guest })),
    address,
    quiet,
  };
  const verdict = await runJob(job, tell);
  const seconds = (performance.now() - began) / 1000;
  const versions = engines.map((name) => ({ name, version: engineOf(name).version }));
  const whole = { module: basename(path), engines: versions, policy, stride, seconds, ...verdict };
  stdout.write(output === 'json' ? toJson(whole) : describeVerdict(whole, module));
  if (!verdict.equal) setExitCode(this, 1);
}
