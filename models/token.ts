/**
 * Access tokens are checked before they become a header: what makes a header invalid is quoted by `fetch` in its error, with
 * the token in it.
 *
 * Source: RFC 6750, section 2.1 (b64token), which all of Hugging Face's tokens and those of mirrors are.
 */

import { UserError } from '../engine/errors.ts';

/**
 * The token without what surrounds it; undefined where nothing is left.
 * @param source where it is from, for the message, which shows nothing of it.
 * @throws UserError `token` for a character that no token has.
 */
export function checkToken(text: string | undefined, source: string): string | undefined {
  const token = text?.trim();
  if (!token) return undefined;
  const at = token.search(/[^A-Za-z0-9._~+/=-]/);
  if (at < 0) return token;
  throw new UserError(
    'token',
    `${source}: its character ${at + 1} of ${token.length} is ${kindOf(token.charCodeAt(at))}; a token has letters, digits and ._~+/=- alone, so copy it anew`,
  );
}

function kindOf(code: number): string {
  if (code === 10 || code === 13) return 'a line break';
  if (code < 32 || code === 127) return 'a control character';
  if (code === 32) return 'a space';
  if (code === 34 || code === 39) return 'a quotation mark';
  return code > 127 ? 'not ASCII' : 'a sign';
}
