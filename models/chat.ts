/**
 * Chat templates: how a model's tokenizer writes a conversation as one prompt, a Jinja template in `tokenizer_config.json`
 * (`chat_template`, a text or a list of named ones) or in `chat_template.jinja` beside it.
 */

import { UserError } from '../engine/errors.ts';
import type { ByteFolder } from './byteSource.ts';
import { templateRunner } from './templateProcess.ts';

/** One message of a conversation. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

/** Writes a conversation; the prompt ends where the assistant's answer begins. @throws UserError `chat` */
export type ChatTemplate = (messages: readonly Message[]) => string;

const CONFIG = 'tokenizer_config.json';
const FILE = 'chat_template.jinja';

/** The folder's chat template. @throws UserError `chat` where it has none or it is not Jinja. */
export async function readChatTemplate(folder: ByteFolder): Promise<ChatTemplate> {
  const fail = (what: string, cause?: unknown) => new UserError('chat', `${folder.name}: ${what}`, { cause });
  const config = (await folder.has(CONFIG))
    ? parse(await folder.readText(CONFIG), () => fail(`${CONFIG} is not an object in JSON`))
    : {};
  const source = (await folder.has(FILE)) ? await folder.readText(FILE) : defaultOf(config.chat_template);
  if (source === undefined) throw fail('its tokenizer has no chat template; leave out --chat for plain text');
  const reason = (cause: unknown) => String((cause as Error).message).split('\n')[0];
  const run = await templateRunner();
  try {
    run(source, null);
  } catch (cause) {
    throw fail(`its chat template cannot be read (${reason(cause)})`, cause);
  }
  const special = Object.fromEntries(
    ['bos_token', 'eos_token', 'unk_token', 'pad_token'].map((key) => [key, textOf(config[key])]),
  );
  return (messages) => {
    try {
      return run(source, { ...special, messages, add_generation_prompt: true });
    } catch (cause) {
      throw fail(`its chat template refuses this conversation (${reason(cause)})`, cause);
    }
  };
}

function parse(text: string, fail: () => UserError): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw fail();
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw fail();
  return json as Record<string, unknown>;
}

/** One template, or the one named `default` of several. */
function defaultOf(entry: unknown): string | undefined {
  if (typeof entry === 'string') return entry;
  if (!Array.isArray(entry)) return undefined;
  const named = entry as readonly ({ name?: unknown; template?: unknown } | null)[];
  const found = named.find((each) => each?.name === 'default') ?? named[0];
  return typeof found?.template === 'string' ? found.template : undefined;
}

/** A special token is a text, or an object with its `content`; absent ones are empty, as templates expect. */
function textOf(token: unknown): string {
  const text = typeof token === 'object' ? (token as { content?: unknown } | null)?.content : token;
  return typeof text === 'string' ? text : '';
}
