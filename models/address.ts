/** Addresses in messages and settings: passwords and signatures in them are for nobody's eyes. */

import { UserError } from '../engine/errors.ts';

/** An address without user, password and query, for a message. */
export const shownAddress = (url: string): string =>
  url.replace(/\/\/[^/?#]*@/, '//…@').replace(/\?.*$/s, '?…');

/** @throws UserError `http-address` where an address has a user or password, which `fetch` refuses in words that show it. */
export function refuseCredentials(url: string, what: string): void {
  if (!/^[a-z]+:\/\/[^/?#]*@/i.test(url)) return;
  throw new UserError(
    'http-address',
    `${what}: has a user or password in the address, which is not supported; leave it out, and give a token`,
  );
}
