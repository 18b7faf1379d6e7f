/** Loads the native addon that `make native` puts beside this file. See index.d.ts for what it offers. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

function failure(message, hint, cause) {
  return Object.assign(new Error(`${message}: ${hint}`, { cause }), { code: 'KEDGE_NATIVE_MISSING', hint });
}

function load() {
  const { platform, arch } = process;
  if (platform !== 'linux' || (arch !== 'x64' && arch !== 'arm64')) {
    throw failure(`Kedge has no native addon for ${platform} on ${arch}`, 'run it on Linux on x64 or arm64');
  }
  const path = fileURLToPath(new URL(`./kedge.${platform}-${arch}-gnu.node`, import.meta.url));
  if (!existsSync(path)) {
    throw failure(`the native addon ${path} is missing`, 'run `make native` (needs Rust) in the project folder');
  }
  try {
    return createRequire(import.meta.url)(path);
  } catch (cause) {
    throw failure(`the native addon ${path} cannot be loaded`, 'build it for this machine with `make native`', cause);
  }
}

export const {
  tunOpen,
  fdClose,
  wakeCreate,
  wakeSignal,
  wakeClear,
  fileSetTimes,
  fileAllocate,
  shortenSlices,
  readBatch,
  writeBatch,
  sockOpen,
  sockBind,
  sockListen,
  sockConnectStart,
  sockConnectWait,
  sockAccept,
  sockSend,
  sockRecv,
  sockSendTo,
  sockRecvFrom,
  sockShutdown,
  sockSetInt,
  sockGetInt,
  sockSetLinger,
  sockLocal,
  sockRemote,
  sockOutQueue,
  sockInQueue,
  sockTcpState,
  sockError,
  pollMany,
  FastPathPrograms,
  FastPathFlows,
  deviceIndex,
  WamrModule,
  WamrInstance,
  wamrWriteFlag,
  wamrEnd,
  wamrVersion,
  instrument,
  deltaRuns,
  deltaCopy,
  pieceDigest,
} = load();
