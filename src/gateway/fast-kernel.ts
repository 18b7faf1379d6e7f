/** The kernel's part of the fast path: opened as the configuration wants it, and closed with the gateway. */
import { KedgeError } from '../errors.ts';
import { failed, native } from '../native.ts';
import type { GatewayConfig } from './config.ts';
import type { KernelPath } from './control.ts';
import { OUTSIDE_TUN, tunOfLeg } from './routes-plan.ts';

/** What there is of it, for operators. */
export type FastPathState =
  { readonly state: 'on' } | { readonly state: 'off' } | { readonly state: 'unavailable'; readonly reason: string };

export type FastKernel = {
  readonly shown: FastPathState;
  /** Undefined when the pump carries everything. */
  readonly path: KernelPath | undefined;
  close(): void;
};

/**
 * Puts the programs in front of the outside device and those of the legs. The TUN devices must be open.
 * Throws KEDGE_FAST_PATH_UNAVAILABLE when the configuration requires what cannot be had.
 */
export function openFastKernel(config: GatewayConfig): FastKernel {
  const nothing = (shown: FastPathState): FastKernel => ({ shown, path: undefined, close: () => undefined });
  if (config.fastPath === 'off') return nothing({ state: 'off' });
  try {
    return attach(config);
  } catch (cause) {
    if (!(cause instanceof Error) || !('code' in cause) || cause.code !== 'KEDGE_FAST_PATH_UNAVAILABLE') throw cause;
    const hint = 'hint' in cause ? String(cause.hint) : '';
    if (config.fastPath === 'require')
      throw new KedgeError('KEDGE_FAST_PATH_UNAVAILABLE', `no fast path: ${cause.message}`, { hint, cause });
    return nothing({ state: 'unavailable', reason: `${cause.message}: ${hint}` });
  }
}

function attach(config: GatewayConfig): FastKernel {
  const legDevices = config.legs.map((leg) => leg.device);
  const programs = new native.FastPathPrograms(config.outside.device, legDevices, config.maxFlows);
  try {
    const [keysFd = -1, flowsFd = -1] = programs.maps();
    const devices = {
      outsideTun: indexOf(OUTSIDE_TUN),
      legs: config.legs.map((leg) => ({ device: indexOf(leg.device), tun: indexOf(tunOfLeg(leg)) })),
    };
    return { shown: { state: 'on' }, path: { keysFd, flowsFd, devices }, close: () => programs.close() };
  } catch (error) {
    programs.close();
    throw error;
  }
}

function indexOf(device: string): number {
  const index = native.deviceIndex(device);
  if (failed(index))
    throw new KedgeError('KEDGE_DEVICE_MISSING', `there is no network device ${device} here`, {
      hint: 'it went away while the gateway started; start it again',
    });
  return index;
}
