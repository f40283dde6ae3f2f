/** Errors of whoever calls, of which the first room knows already; all others are in engine/errors.ts. */

/** The user's mistake: a bad file, option, prompt or machine. `code` is stable and machine-readable. */
export class UserError extends Error {
  override readonly name: string = 'UserError';
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A kernel that does not compile, or that is called with what it does not take: the mistake of its author or caller. */
export class KernelError extends UserError {
  override readonly name = 'KernelError';
  constructor(kernel: string, message: string, options?: ErrorOptions) {
    super('kernel', `kernel "${kernel}": ${message}`, options);
  }
}
