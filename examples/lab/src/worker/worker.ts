/**
 * The worker: the GPU's side of the page. Calls run as they come, interleaved at their readbacks, so that a slider moves
 * while a sweep is on its way. A model is open until the next one is: a folder that cannot be opened takes nothing away.
 */

import { DeviceLostError, OutOfMemoryError } from '../../../../engine/errors.ts';
import { UserError } from '../../../../neurgrad/index.ts';
import type { CallName, Calls, Failure, News, Order } from '../protocol.ts';
import { Cancelled, Job } from './job.ts';
import { Session } from './session.ts';
import { forgetModel, keptModels } from './store.ts';

const jobs = new Map<number, Job>();
const running = new Set<Promise<unknown>>();
let session: Session | null = null;

type Handlers = { [K in CallName]: (ask: Calls[K]['ask'], job: Job) => Promise<Calls[K]['answer']> };

const handlers: Handlers = {
  async open({ source, dtype }, job) {
    let opened: Session;
    try {
      opened = await Session.open(source, dtype, job);
    } catch (error) {
      if (!session || !(error instanceof OutOfMemoryError)) throw error;
      // The two do not fit side by side. Only memory was wanting: the files have been read and found right.
      await close(session);
      opened = await Session.open(source, dtype, job);
    }
    if (session) void close(session);
    session = opened;
    opened.device.lost.then(({ message, reason }) => {
      if (session !== opened) return;
      session = null;
      post({ lost: message || reason });
    });
    return opened.card;
  },
  answer: async (question) => current().answer(question),
  study: async (answer) => current().study(answer),
  run: async (ask) => current().run(ask),
  sweep: async (ask, job) => current().sweep(ask, job),
  side: async (ask) => current().side(ask),
  measure: async (ask, job) => current().measure(ask, job),
  write: async (ask, job) => current().write(ask, job),
  steer: async (ask, job) => current().steer(ask, job),
  async close() {
    // Not as one of the calls that it waits for.
    if (session) void close(session);
    return null;
  },
  opened: async () => session?.card ?? null,
  kept: keptModels,
  async forget({ model }) {
    await forgetModel(model);
    return null;
  },
  async loseDevice() {
    current().device.gpu.destroy();
    return null;
  },
};

/** Closes a session when the calls to it have ended; it takes no more. */
async function close(closing: Session): Promise<void> {
  if (session === closing) session = null;
  await Promise.allSettled(running);
  closing.close();
}

/** @throws Cancelled while no model is open: the page asks again when one is. */
function current(): Session {
  if (!session) throw new Cancelled('no model is open');
  return session;
}

function post(news: News): void {
  self.postMessage(news);
}

function failureOf(error: unknown): Failure {
  if (error instanceof Cancelled) return { code: 'cancelled', message: 'Cancelled.' };
  if (error instanceof DeviceLostError) return { code: 'lost', message: error.message };
  if (error instanceof UserError) return { code: error.code, message: sentence(error.message) };
  console.error(error);
  return {
    code: 'bug',
    message: sentence(`Something went wrong that should not: ${(error as Error).message}`),
  };
}

/** With a capital, unless a name comes first, and a full stop. */
function sentence(text: string): string {
  const first = /^[a-z]+[\s,:]/.test(text) ? text[0]!.toUpperCase() + text.slice(1) : text;
  return /[.!?…)]$/.test(first) ? first : `${first}.`;
}

async function handle<K extends CallName>(id: number, call: K, ask: Calls[K]['ask']): Promise<void> {
  const job = new Job((progress) => post({ id, progress }));
  jobs.set(id, job);
  const work = handlers[call](ask, job);
  if (call !== 'open') running.add(work);
  try {
    const answer = await work;
    job.check();
    post({ id, answer });
  } catch (error) {
    post({ id, failure: failureOf(error) });
  } finally {
    jobs.delete(id);
    running.delete(work);
  }
}

self.onmessage = ({ data }: MessageEvent<Order>) => {
  if ('cancel' in data) jobs.get(data.cancel)?.cancel();
  else void handle(data.id, data.call, data.ask);
};
