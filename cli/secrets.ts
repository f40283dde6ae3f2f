/**
 * What standard error may never show. Tokens are checked before they are sent (models/token.ts) and foreign messages are not
 * copied where they may hold a header; this is the net under both, for messages that nobody has thought of.
 */

const VARIABLES = ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'];
/** Shorter ones would take half of a message with them. */
const SHORTEST = 6;

/** The text without access tokens: those of the environment, and whatever looks like one. */
export function withoutSecrets(text: string, env: NodeJS.ProcessEnv = process.env): string {
  // One with line breaks in it is shown in pieces.
  const tokens = VARIABLES.flatMap((name) => env[name]?.split(/\s+/) ?? [])
    .filter((token) => token.length >= SHORTEST)
    .sort((a, b) => b.length - a.length);
  return tokens
    .reduce((shown, token) => shown.replaceAll(token, '…'), text)
    .replace(/\b(Bearer|Authorization: Basic)\s+[^\s"',;)]+/g, '$1 …')
    .replace(/\bhf_[A-Za-z0-9]{6,}/g, 'hf_…')
    .replace(/(\w+:\/\/)[^\s/?#@]+@/g, '$1…@');
}
