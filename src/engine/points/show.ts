/** Values of frames, as people write them. */
import type { Value } from './stack.ts';

const VIEW = new DataView(new ArrayBuffer(8));

/** A value with its type: `i32:-1`, `f64:0.5`, `funcref:3`. */
export function showValue({ type, bits }: Value): string {
  switch (type) {
    case 'i':
      return `i32:${BigInt.asIntN(32, bits)}`;
    case 'I':
      return `i64:${BigInt.asIntN(64, bits)}`;
    case 'f':
      VIEW.setUint32(0, Number(bits));
      return `f32:${showFloat(VIEW.getFloat32(0))}`;
    case 'F':
      VIEW.setBigUint64(0, bits);
      return `f64:${showFloat(VIEW.getFloat64(0))}`;
    case 'v':
      return `v128:0x${bits.toString(16).padStart(32, '0')}`;
    case 'r':
      return bits === 0n ? 'funcref:null' : `funcref:${bits - 1n}`;
    case 'e':
      return 'externref:null';
  }
}

function showFloat(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}
