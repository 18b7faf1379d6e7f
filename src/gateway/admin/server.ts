/**
 * The gateway's admin API: fastify over a Unix socket. Every body is checked by the schemas of `schema.ts`, which are also what
 * `/v1/openapi.json` shows.
 *
 * Reading (status, flows, guests) looks at shared memory and never stops the pump; a verb goes to the pump and is carried out
 * between two batches. Who may do either is decided by the permissions of the socket's file and nothing else.
 */
import swagger from '@fastify/swagger';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyError, FastifyReply, FastifySchemaValidationError } from 'fastify';
import fastify, { LogController } from 'fastify';
import { Type } from 'typebox';
import type { TSchema } from 'typebox';
import type { ErrorCode } from '../../errors.ts';
import { KedgeError } from '../../errors.ts';
import { VERSION } from '../../version.ts';
import {
  AttachBody,
  AttachResult,
  ClaimBody,
  CheckResult,
  Empty,
  EpochBody,
  ErrorBody,
  ExportBody,
  ExportResult,
  FlowDetail,
  FlowList,
  FlowQuery,
  FreezeResult,
  GuestList,
  Health,
  RegisterBody,
  RegisterResult,
  RemoveBody,
  Status,
} from './schema.ts';
import type { ControlVerbs, FlowSummary, GuestSummary } from './schema.ts';
import { LINE_LIMIT } from './verb-lines.ts';
import { serveVerbs } from './verb-server.ts';

/** What can be read at any time. */
export type AdminListing = {
  status(): Status;
  flows(query: FlowQuery): FlowSummary[];
  flow(id: number): FlowDetail | undefined;
  guests(): GuestSummary[];
};

/** What carries out the verbs: the pump, or a stand-in of a test. Rejects with KedgeError. */
export type AdminControl = {
  call<V extends keyof ControlVerbs>(verb: V, args: ControlVerbs[V]['args']): Promise<ControlVerbs[V]['result']>;
};

export type AdminOptions = {
  readonly listing: AdminListing;
  readonly control: AdminControl;
  readonly logger: FastifyBaseLogger;
};

export type AdminServer = Awaited<ReturnType<typeof createAdminServer>>;

/** HTTP status of the codes a caller can cause; any other is a fault of the gateway. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  KEDGE_BAD_REQUEST: 400,
  KEDGE_ADDRESS_OUTSIDE_POOL: 400,
  KEDGE_LEG_UNKNOWN: 400,
  KEDGE_NOT_FOUND: 404,
  KEDGE_GUEST_UNKNOWN: 404,
  KEDGE_FLOW_UNKNOWN: 404,
  KEDGE_ADDRESS_IN_USE: 409,
  KEDGE_PORT_IN_USE: 409,
  KEDGE_GUEST_EXISTS: 409,
  KEDGE_GUEST_RUNNING: 409,
  KEDGE_GUEST_BUSY: 409,
  KEDGE_GUEST_NOT_RUNNING: 409,
  KEDGE_GUEST_NOT_FROZEN: 409,
  KEDGE_GUEST_SEALED: 409,
  KEDGE_EXPORT_INCONSISTENT: 409,
  KEDGE_FLOW_UNMOVABLE: 409,
  KEDGE_EPOCH_STALE: 409,
  KEDGE_EPOCH_CLAIMED: 409,
  KEDGE_EPOCH_COMMITTED: 409,
  KEDGE_POOL_EXHAUSTED: 507,
  KEDGE_GUESTS_FULL: 507,
  KEDGE_PUMP_FAILED: 503,
};

/** Makes the server; the caller listens and closes. */
export async function createAdminServer(options: AdminOptions) {
  const { control, listing, logger } = options;
  const call: AdminControl['call'] = async (verb, args) => {
    const about = { verb, guest: args.id, ...('epoch' in args ? { epoch: args.epoch } : {}) };
    try {
      const result = await control.call(verb, args);
      logger.info(about, 'done');
      return result;
    } catch (error) {
      logger.info({ ...about, code: error instanceof KedgeError ? error.code : 'KEDGE_INTERNAL' }, 'refused');
      throw error;
    }
  };
  const app = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: LINE_LIMIT,
    forceCloseConnections: true,
  }).withTypeProvider<TypeBoxTypeProvider>();
  app.setValidatorCompiler(TypeBoxValidatorCompiler);
  // Schemas of answers document; what is answered is what the listing and the pump gave, exactly.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.setErrorHandler((error: FastifyError, _request, reply) => answerError(error, reply));
  app.setNotFoundHandler((request, reply) =>
    answerError(new KedgeError('KEDGE_NOT_FOUND', `there is no ${request.method} ${request.url}`), reply),
  );
  await app.register(swagger, {
    openapi: { openapi: '3.1.0', info: { title: 'Kedge gateway', version: VERSION } },
  });
  // The routes are a plugin of their own, so that swagger is there to see them.
  await app.register(
    (api, _options, done) => {
      const typed = api.withTypeProvider<TypeBoxTypeProvider>();

      typed.get('/health', answers('lives', Health), () => ({ ok: true as const }));
      typed.get('/status', answers('counters of the whole gateway', Status), () => listing.status());
      typed.get(
        '/flows',
        { schema: { ...answers('flows that match all of the query', FlowList).schema, querystring: FlowQuery } },
        (request) => ({ flows: listing.flows(request.query) }),
      );
      typed.get(
        '/flows/:id',
        { schema: { ...answers('one flow with all its numbers', FlowDetail).schema, params: FlowId } },
        (request) => {
          const flow = listing.flow(request.params.id);
          if (flow === undefined) {
            throw new KedgeError('KEDGE_FLOW_UNKNOWN', `there is no flow ${request.params.id} (any more)`);
          }
          return flow;
        },
      );
      typed.get('/guests', answers('all guests', GuestList), () => ({ guests: listing.guests() }));
      typed.post(
        '/guests',
        { schema: { ...answers('makes a guest known, at epoch 1', RegisterResult, 201).schema, body: RegisterBody } },
        async (request, reply) => {
          const result = await call('register', request.body);
          return reply.code(201).send(result);
        },
      );
      typed.delete('/guests/:id', { schema: { ...verbOf('the guest has ended', Empty), body: EpochBody } }, (request) =>
        call('unregister', { ...request.body, id: request.params.id }),
      );
      typed.post(
        '/guests/:id/remove',
        { schema: { ...verbOf('an operator gives the guest up', Empty), body: RemoveBody } },
        (request) => call('remove', { ...request.body, id: request.params.id }),
      );
      typed.post(
        '/guests/:id/export',
        { schema: { ...verbOf('what was drained; gives what the gateway knows', ExportResult), body: ExportBody } },
        (request) => call('export', { ...request.body, id: request.params.id }),
      );
      typed.post(
        '/guests/:id/attach',
        { schema: { ...verbOf('claims the next epoch for a leg', AttachResult), body: AttachBody } },
        (request) => call('attach', { ...request.body, id: request.params.id }),
      );
      for (const [name, brief] of CLAIM_VERBS) {
        typed.post(
          `/guests/:id/${name}`,
          { schema: { ...verbOf(brief, Empty), body: ClaimBody } },
          (request): Promise<object> => call(name, { ...request.body, id: request.params.id }),
        );
      }
      for (const [name, brief, result] of EPOCH_VERBS) {
        typed.post(
          `/guests/:id/${name}`,
          { schema: { ...verbOf(brief, result), body: EpochBody } },
          (request): Promise<object> => call(name, { ...request.body, id: request.params.id }),
        );
      }
      typed.get('/openapi.json', { schema: { hide: true } }, () => app.swagger());
      done();
    },
    { prefix: '/v1' },
  );
  const verbs = serveVerbs(app.server, call, (error) => {
    const known = asKedgeError(error instanceof Error ? error : new Error(String(error)));
    if (STATUS[known.code] === undefined) logger.error({ err: error }, 'request failed');
    return bodyOf(known);
  });
  // Before the server waits for its connections to end.
  app.addHook('preClose', (done) => {
    verbs.close();
    done();
  });
  return app;
}

/** The verbs whose body is the epoch alone. */
const EPOCH_VERBS = [
  ['check', 'whether every flow of the guest can move', CheckResult],
  ['freeze', 'the gateway stands in for the guest', FreezeResult],
  ['seal', 'the image holds the only claim', Empty],
  ['abort', 'thaws the guest where it was', Empty],
] as const;

/** The verbs of an attach. */
const CLAIM_VERBS = [
  ['commit', 'the flows switch to the attached epoch'],
  ['detach', 'gives an attached epoch back'],
] as const;

const FlowId = Type.Object({ id: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) });
const GuestId = Type.Object({ id: Type.String() });

function answers<T extends TSchema>(summary: string, result: T, status = 200) {
  return { schema: { summary, response: { [status]: result, default: ErrorBody } } };
}

function verbOf<T extends TSchema>(summary: string, result: T) {
  return { ...answers(summary, result).schema, params: GuestId };
}

function answerError(error: FastifyError | KedgeError, reply: FastifyReply): FastifyReply {
  const known = asKedgeError(error);
  const status = STATUS[known.code] ?? 500;
  if (status === 500) reply.log.error({ err: error }, 'request failed');
  return reply.code(status).send(bodyOf(known));
}

function bodyOf({ code, message, hint }: KedgeError): ErrorBody {
  return hint === undefined ? { code, message } : { code, message, hint };
}

function asKedgeError(error: Error | FastifyError | KedgeError): KedgeError {
  if (error instanceof KedgeError) return error;
  if ('validation' in error && error.validation !== undefined) {
    const part = error.validationContext ?? 'request';
    const found = error.validation.slice(0, MESSAGES).map((problem) => explain(part, problem));
    return new KedgeError('KEDGE_BAD_REQUEST', found.join('; '));
  }
  const status = 'statusCode' in error ? (error.statusCode ?? 500) : 500;
  if (status < 500) return new KedgeError('KEDGE_BAD_REQUEST', error.message);
  return new KedgeError('KEDGE_INTERNAL', error.message);
}

/** Of a body with thousands of wrong entries a few say enough. */
const MESSAGES = 3;

function explain(part: string, problem: FastifySchemaValidationError): string {
  const where = `${part}${problem.instancePath}`;
  // The validator's word for a property that no schema allows.
  if (problem.keyword === 'boolean') return `${where} is not expected`;
  const allowed = problem.params['allowedValues'];
  const values = Array.isArray(allowed) ? `: ${allowed.join(', ')}` : '';
  return `${where} ${problem.message ?? 'is not valid'}${values}`;
}
