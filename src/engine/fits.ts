import { KedgeError } from '../errors.ts';
import type { ComputeState, InstrumentedModule } from './engine.ts';

/** Throws KEDGE_FRAMES_MISMATCH unless a state was made by this module, in an encoding that this form of it has. */
export function checkFits(state: ComputeState, module: InstrumentedModule): void {
  const { originalHash, encoding, globals } = module;
  if (state.originalHash !== originalHash) {
    throw mismatch('it is of another module');
  }
  if (state.frames.encoding !== encoding) {
    throw mismatch(`its frames are ${state.frames.encoding}, not ${encoding}`);
  }
  if (state.globals.length !== globals.length || state.globals.some(({ type }, n) => type !== globals[n])) {
    throw mismatch('its globals are others');
  }
  if (state.call !== undefined && state.frames.bytes.length === 0) {
    throw mismatch('it stands in a host call but has no frames');
  }
}

function mismatch(what: string): KedgeError {
  return new KedgeError('KEDGE_FRAMES_MISMATCH', `the captured state does not fit: ${what}`, {
    hint: 'frames name places of the module as it was compiled; they fit that module alone, and a Kedge that knows their encoding',
  });
}

/** Puts captured memory into an instance's, which has been grown for it; nothing to do when it was filled in place. */
export function fillMemory(memory: Uint8Array, captured: Uint8Array, pages: number, pageSize: number): void {
  if (memory.length !== pages * pageSize || memory.length !== captured.length) {
    throw new KedgeError('KEDGE_FRAMES_MISMATCH', 'the size of the captured memory does not fit the module');
  }
  if (captured.buffer !== memory.buffer) {
    memory.set(captured);
  }
}
