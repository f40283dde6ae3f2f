/**
 * Typed errors. One line each: what is wrong, where (file, tensor, option), what to do.
 *
 * `UserError` is the user's mistake (bad file, bad option, no adapter): the command line prints its message alone
 * and exits with 2. Everything else is ours: one line as well, and exit code 1.
 */

import { UserError } from '../kernels/errors.ts';

export { KernelError, UserError } from '../kernels/errors.ts';

/** Shapes or dtypes that an operation does not accept; the message names the op and the shapes. */
export class ShapeError extends UserError {
  override readonly name = 'ShapeError';
  constructor(op: string, message: string) {
    super('shape', `${op}: ${message}`);
  }
}

/** No adapter, or one that lacks what was asked for, or two devices where there should be one. */
export class DeviceError extends UserError {
  override readonly name = 'DeviceError';
  /** For tensors that do not lie on one device, given to one operation. */
  static two(op: string): DeviceError {
    return new DeviceError(
      'two-devices',
      `${op}: its tensors lie on two devices; bring one over with tensor(device, await it.read(), it.shape)`,
    );
  }
}

/** The device was lost: every tensor on it is gone. */
export class DeviceLostError extends Error {
  override readonly name = 'DeviceLostError';
}

/** The driver neither finishes what it was given nor says that it cannot; nothing more comes of this device. */
export class DriverTimeoutError extends Error {
  override readonly name = 'DriverTimeoutError';
}

/** The memory budget (or the device) cannot hold what was asked for. Sizes in bytes. */
export class OutOfMemoryError extends UserError {
  override readonly name = 'OutOfMemoryError';
  readonly asked: number;
  readonly held: number;
  readonly budget: number;
  constructor(message: string, asked: number, held: number, budget: number) {
    super('out-of-memory', message);
    this.asked = asked;
    this.held = held;
    this.budget = budget;
  }
}

/** A recording or its replay that cannot be. */
export class PlanError extends UserError {
  override readonly name = 'PlanError';
  constructor(message: string) {
    super('plan', message);
  }
}

/** A gradient that does not exist, asked for. */
export class GradientError extends UserError {
  override readonly name = 'GradientError';
  constructor(message: string) {
    super('gradient', message);
  }
}

/** What codes of failed file-system calls mean; those that depend on what was tried are functions of it. */
const FILE_ERRORS: Record<string, string | ((write: boolean) => string)> = {
  ENOENT: (write) => (write ? 'there is no such folder' : 'no such file'),
  ENOTDIR: (write) => (write ? 'a part of the path is a file, not a folder' : 'no such file'),
  EISDIR: 'is a folder, not a file',
  EACCES: (write) => `may not be ${write ? 'written' : 'opened'} (permission denied)`,
  EPERM: (write) => `may not be ${write ? 'written' : 'opened'} (not permitted)`,
  ENOSPC: 'no space left on the disk',
  EDQUOT: 'no space left in your share of the disk',
  EFBIG: 'the file is too large for the disk',
  EIO: 'the disk reports a fault',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'links lead in a circle',
  EROFS: 'the disk is read-only',
  EBUSY: 'is in use',
  EEXIST: 'is there already',
  ENOTEMPTY: 'is not empty',
  EMFILE: 'too many open files',
};

/** What a failed file-system call means to the user, in one line. @param doing what was tried; default to read. */
export function fileError(path: string, cause: unknown, doing: 'read' | 'write' = 'read'): UserError {
  if (cause instanceof UserError) return cause;
  const { code = '' } = cause as { code?: string };
  // Node shows a name that is no UTF-8 with this character for what it cannot read, and then finds nothing of that name.
  if (code === 'ENOENT' && doing === 'read' && path.includes('\ufffd'))
    return new UserError('file', `${path}: its name is not UTF-8 text; rename it`, { cause });
  const meaning = FILE_ERRORS[code];
  const what = typeof meaning === 'function' ? meaning(doing === 'write') : meaning;
  return new UserError('file', `${path}: ${what ?? String((cause as Error).message ?? cause)}`, { cause });
}
