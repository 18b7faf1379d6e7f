import { decodeCbor } from '../../src/image/cbor.ts';
import type { ImagePart } from '../../src/image/memory-section.ts';
import { decodeFlows, decodeImage } from '../../src/image/reader.ts';
import type { WholeParts } from '../../src/image/writer.ts';

/** All bytes of an image, or of a message's payload. */
export async function bytesOf(
  parts: readonly (ImagePart | { read(): AsyncIterable<Uint8Array> })[],
): Promise<Buffer<ArrayBuffer>> {
  const bytes: Uint8Array[] = [];
  for (const part of parts) {
    if (part instanceof Uint8Array) bytes.push(part);
    // A piece may be written over when the next one is asked for.
    else for await (const piece of part.read()) bytes.push(piece.slice());
  }
  return Buffer.concat(bytes);
}

/** An image as its writer had it: to make another one of it. */
export async function partsAgain(image: Uint8Array): Promise<WholeParts> {
  const decoded = await decodeImage(image);
  const handles = decodeCbor(decoded.handles, 'handles') as WholeParts['handles'];
  return { ...decoded, handles, flows: decodeFlows(decoded) as WholeParts['flows'] };
}
