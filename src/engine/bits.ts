import type { HostValue, ValueType } from './engine.ts';

const SCRATCH = new DataView(new ArrayBuffer(8));

/** The unsigned bit pattern of a value of a type. A NaN that came from an engine may have been changed by it before. */
export function bitsOf(type: ValueType, value: HostValue): bigint {
  switch (type) {
    case 'i32':
      return BigInt.asUintN(32, BigInt(value));
    case 'i64':
      return BigInt.asUintN(64, BigInt(value));
    case 'f32':
      SCRATCH.setFloat32(0, Number(value));
      return BigInt(SCRATCH.getUint32(0));
    case 'f64':
      SCRATCH.setFloat64(0, Number(value));
      return SCRATCH.getBigUint64(0);
  }
}
