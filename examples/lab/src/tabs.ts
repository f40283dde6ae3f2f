/**
 * Other tabs of this browser that have a model open: each holds its own weights on the device. A tab with a model holds a lock whose
 * name says which; tabs tell each other when that changes, and one can ask the others to close theirs.
 */

/** What another tab holds. */
export interface Elsewhere {
  readonly model: string;
  readonly bytes: number;
}

const PREFIX = 'neurgrad-lab ';
type Message = 'changed' | 'close';

export class Tabs {
  readonly #channel = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel('neurgrad-lab');
  readonly #onChange: (others: readonly Elsewhere[]) => void;
  #release: (() => void) | null = null;
  /** The lock of this tab, by a name that no other has. */
  #own = '';

  /** `onClose`: another tab wants the device for itself. */
  constructor(onChange: (others: readonly Elsewhere[]) => void, onClose: () => void) {
    this.#onChange = onChange;
    this.#channel?.addEventListener('message', ({ data }: MessageEvent<Message>) => {
      if (data === 'close') onClose();
      else void this.#look();
    });
    // A tab that goes tells before its lock is gone.
    addEventListener('pagehide', () => this.#tell());
    document.addEventListener('visibilitychange', () => void this.#look());
  }

  /** What this tab has open now; null: nothing. */
  hold(held: Elsewhere | null): void {
    this.#release?.();
    this.#release = null;
    this.#own = '';
    if (held) {
      this.#own = `${PREFIX}${JSON.stringify([crypto.randomUUID(), held.model, held.bytes])}`;
      // Others are told when the lock is there, and when it is gone.
      const name = this.#own;
      const until = () =>
        new Promise<void>((release) => {
          // Another model is held by now.
          if (name !== this.#own) return release();
          this.#release = release;
          this.#tell();
        });
      void navigator.locks?.request(name, until).then(() => this.#tell());
    }
    void this.#look();
  }

  /** Asks the other tabs to close their models. */
  closeOthers(): void {
    this.#channel?.postMessage('close' satisfies Message);
  }

  #tell(): void {
    this.#channel?.postMessage('changed' satisfies Message);
  }

  async #look(): Promise<void> {
    // The lock of a tab that goes is gone a moment later.
    await new Promise((resolve) => setTimeout(resolve, 200));
    const { held = [] } = (await navigator.locks?.query()) ?? {};
    const others = held.flatMap(({ name = '' }) => {
      if (!name.startsWith(PREFIX) || name === this.#own) return [];
      const [, model, bytes] = JSON.parse(name.slice(PREFIX.length)) as [string, string, number];
      return [{ model, bytes }];
    });
    this.#onChange(others);
  }
}
