/** Every failure that reaches a user has a stable code of this table, a sentence, and where possible what to do about it. */

/** Codes and what they mean in general; the message of an error says what happened. */
export const ERROR_CODES = {
  // Set-up
  KEDGE_NATIVE_MISSING: 'the native addon was not built for this machine',
  KEDGE_USAGE: 'a command was called with arguments it does not have',
  KEDGE_OUTPUT: 'what a command prints cannot be written',
  KEDGE_INTERNAL: 'a fault of Kedge itself',
  KEDGE_OUT_OF_MEMORY: 'this host has no memory left for it',
  // TUN devices and routes
  KEDGE_TUN_MISSING: '/dev/net/tun is not there',
  KEDGE_TUN_PERMISSION: 'CAP_NET_ADMIN is missing',
  KEDGE_TUN_BUSY: 'a device of that name is in use',
  KEDGE_TUN_FAILED: 'the kernel refused the TUN device',
  KEDGE_FAST_PATH_UNAVAILABLE: 'the kernel cannot carry connections past the pump',
  KEDGE_ROUTES_FAILED: 'a rule or route could not be set',
  KEDGE_DEVICE_MISSING: 'a network device of the config is not there',
  KEDGE_OUTSIDE_ADDRESS_LOCAL: 'the outside address is assigned where the gateway cannot take it',
  KEDGE_IP_COMMAND_MISSING: 'the ip command is not there',
  // Config
  KEDGE_CONFIG_READ: 'the config file cannot be read',
  KEDGE_CONFIG_SYNTAX: 'the config file is not TOML',
  KEDGE_CONFIG_UNKNOWN_KEY: 'a key no one reads',
  KEDGE_CONFIG_MISSING_KEY: 'a key that must be there',
  KEDGE_CONFIG_VALUE: 'a value of the wrong kind or range',
  KEDGE_CONFIG_ADDRESS: 'not an IPv4 address',
  KEDGE_CONFIG_PREFIX: 'not an IPv4 prefix',
  KEDGE_CONFIG_DUPLICATE: 'two legs of one name or device',
  KEDGE_CONFIG_CONFLICT: 'two values that exclude each other',
  // Gateway
  KEDGE_GATEWAY_RUNNING: 'a gateway already runs here',
  KEDGE_GATEWAY_UNREACHABLE: 'no gateway answers on the socket',
  KEDGE_GATEWAY_TIMEOUT: 'the gateway did not answer in time',
  KEDGE_GATEWAY_PROTOCOL: 'what answers is not a gateway of this version',
  KEDGE_SOCKET_PATH: 'the Unix socket cannot be made there',
  KEDGE_PUMP_FAILED: 'the pump ended',
  KEDGE_PUMP_STOPPED: 'the pump is stopping',
  KEDGE_BAD_REQUEST: 'a request that does not match its schema',
  KEDGE_NOT_FOUND: 'no such path',
  KEDGE_FLOW_UNKNOWN: 'no flow of that id',
  KEDGE_FLOW_UNMOVABLE: 'a connection cannot move',
  KEDGE_GUEST_UNKNOWN: 'no guest of that id',
  KEDGE_GUEST_EXISTS: 'a guest of that id or name is there',
  KEDGE_GUESTS_FULL: 'no room for another guest',
  KEDGE_GUEST_AMBIGUOUS: 'several guests have the name',
  KEDGE_GUEST_RUNNING: 'the guest is running',
  KEDGE_GUEST_NOT_RUNNING: 'the guest is frozen',
  KEDGE_GUEST_NOT_FROZEN: 'the guest is not frozen',
  KEDGE_GUEST_SEALED: 'the guest lives in an image',
  KEDGE_ADDRESS_IN_USE: 'another guest has the address',
  KEDGE_ADDRESS_OUTSIDE_POOL: 'not an address of the guest pool',
  KEDGE_POOL_EXHAUSTED: 'no guest address is free',
  KEDGE_PORT_IN_USE: 'the outside port is taken',
  KEDGE_LEG_UNKNOWN: 'no leg of that name',
  KEDGE_EPOCH_STALE: 'the caller names an epoch that is over or was taken back',
  KEDGE_EPOCH_CLAIMED: 'the epoch was given to another restore',
  KEDGE_EPOCH_COMMITTED: 'the move was committed; this copy must end',
  KEDGE_EXPORT_INCONSISTENT: 'an export claims what the wire disproves',
  // Modules and engines
  KEDGE_MODULE_INVALID: 'not a valid WebAssembly module',
  KEDGE_MODULE_UNSUPPORTED: 'the module uses a feature that cannot be captured',
  KEDGE_MODULE_NO_START: 'the module exports no _start',
  KEDGE_MODULE_READ: 'the module file cannot be read',
  KEDGE_IMPORT_UNKNOWN: 'the module imports what Kedge does not have',
  KEDGE_IMPORT_TYPE: 'an import has another type than the module wants',
  KEDGE_STACK_TOO_DEEP: 'the stack does not fit where a stop saves it',
  KEDGE_FRAMES_CORRUPT: 'saved frames are damaged',
  KEDGE_FRAMES_MISMATCH: 'saved frames belong to another module or encoding',
  KEDGE_ENGINE_UNKNOWN: 'no engine of that name',
  KEDGE_ENGINE_STATE: 'the engine is not in a state for this',
  // Guests and sockets
  KEDGE_GUEST_BUSY: 'the guest is being moved, checkpointed or stopped',
  KEDGE_GUEST_ENDED: 'the guest has ended',
  KEDGE_GUEST_CRASHED: 'the thread of the guest died',
  KEDGE_GUEST_UNSTOPPABLE: 'the guest did not reach a stable point in time',
  KEDGE_RESTORE_FILE: 'a file the guest had open is not there',
  KEDGE_FILE_DELETED: 'a file the guest has open was deleted',
  KEDGE_PREOPEN_INVALID: 'a directory given to the guest cannot be used',
  KEDGE_RESTORE_MEMORY: 'the memory of an image does not fit the module, or this host',
  KEDGE_RESTORE_BIND: 'a socket of the guest cannot be bound on this host',
  KEDGE_RESTORE_CONNECT: 'a connection of the guest could not be resumed on this host',
  KEDGE_RESTORE_ADDRESS: 'the guest of an image has another address than the one it is given',
  KEDGE_FLOW_MISMATCH: 'the gateway and the image disagree about a connection',
  // Images
  KEDGE_IMAGE_INVALID: 'an image whose parts contradict each other',
  KEDGE_IMAGE_TOO_LARGE: 'an image of more bytes than any that is read',
  KEDGE_IMAGE_NOT_AN_IMAGE: 'not a Kedge image',
  KEDGE_IMAGE_VERSION: 'an image of a newer version',
  KEDGE_IMAGE_TRUNCATED: 'an image that ends too early',
  KEDGE_IMAGE_CORRUPT: 'an image whose bytes do not match their digest',
  KEDGE_IMAGE_WRITE: 'the image could not be written',
  KEDGE_IMAGE_EXISTS: 'the file an image is to be written to is there already',
  KEDGE_IMAGE_READ: 'the image file cannot be read',
  // Agents
  KEDGE_AGENT_RUNNING: 'an agent already listens there',
  KEDGE_AGENT_PROTOCOL: 'the other end does not speak as this version does',
  KEDGE_LINK_BROKEN: 'a connection between agents broke',
  KEDGE_MOVE_VERSION: 'the two agents speak different versions of the hand-over',
  KEDGE_STAGE_TIMEOUT: 'a stage of a move took too long',
  KEDGE_GUEST_ADDRESS: 'not a usable address for a guest',
  KEDGE_IMAGE_NO_CLAIM: 'the image was taken while the guest went on running',
  KEDGE_IMAGE_NO_MODULE: 'the image does not carry its module',
  KEDGE_UNSETTLED: 'the old kernel kept acknowledging bytes during the drain',
  KEDGE_AGENT_UNREACHABLE: 'no agent answers on the socket',
  KEDGE_AGENT_STOPPING: 'the agent is stopping and takes no guest',
  KEDGE_AGENT_STATE: 'the state directory of the agent cannot be used',
  KEDGE_FAULT_INJECTED: 'a failure that KEDGE_FAULT asked for',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_CODES, text);
}

export type ErrorDetails = {
  /** What the reader can do about it. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
};

export class KedgeError extends Error {
  readonly code: ErrorCode;
  readonly hint?: string;

  /** `details` may be just the hint. */
  constructor(code: ErrorCode, message: string, details: string | ErrorDetails = {}) {
    const { hint, cause } = typeof details === 'string' ? { hint: details, cause: undefined } : details;
    super(message, cause === undefined ? {} : { cause });
    this.name = 'KedgeError';
    this.code = code;
    if (hint !== undefined) this.hint = hint;
  }
}

/** Any failure as one with a code. What nobody has foreseen is KEDGE_INTERNAL, and says where it happened. */
export function coded(error: unknown): KedgeError {
  if (error instanceof KedgeError) return error;
  // Both of V8, for buffers, and of Node, for compression.
  if (error instanceof Error && /allocat/i.test(error.message)) {
    const hint = 'make room on this host, or choose another';
    return new KedgeError('KEDGE_OUT_OF_MEMORY', error.message, { hint, cause: error });
  }
  const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return new KedgeError('KEDGE_INTERNAL', why, { cause: error });
}

/** A failure of that code with another way out; any other as it is. */
export function withHint(error: unknown, code: ErrorCode, hint: string): unknown {
  if (!(error instanceof KedgeError) || error.code !== code) return error;
  return new KedgeError(code, error.message, { hint, cause: error });
}
