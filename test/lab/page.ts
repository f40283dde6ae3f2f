/** The laboratory's page as its tests reach it. */

import type { Page } from 'playwright-core';

/** Until the page answers the sentence that it shows. */
export async function answered(on: Page): Promise<void> {
  await on.waitForFunction(() => {
    const { study, state, current } = window.neurgradLab.view;
    return study !== null && study.question.text === state.text && current.study;
  });
}

/** The page's own state and results. */
export interface PageLab {
  readonly view: {
    readonly card: { readonly bytes: number; readonly name: string } | null;
    readonly state: { readonly text: string; readonly shifts: readonly { readonly shift: number }[] };
    readonly current: { readonly study: boolean };
    readonly answer: {
      readonly question: { readonly text: string };
      readonly tokens: readonly string[];
      readonly predictions: readonly { readonly id: number; readonly text: string }[];
    } | null;
    readonly study: {
      readonly question: { readonly text: string; readonly site: string; readonly direction: string };
      readonly target: { readonly text: string };
      readonly p: number;
      readonly predictions: readonly { readonly text: string; readonly p: number }[];
      readonly activation: Float32Array;
      readonly gradient: Float32Array;
      readonly neurgrad: Float64Array;
      readonly noise: Float64Array;
    } | null;
    readonly distribution: {
      readonly predictions: readonly { readonly id: number; readonly p: number }[];
      readonly shifts: readonly { readonly shift: number }[];
    } | null;
    readonly sweep: {
      readonly curve: {
        readonly r: number;
        readonly ran: number;
        readonly slope: number;
        readonly shifts: readonly number[];
        readonly p: readonly number[];
      };
    } | null;
  };
  readonly saved: Pick<PageLab['view'], 'state' | 'distribution'>;
  loseDevice(): Promise<void>;
}
declare global {
  interface Window {
    neurgradLab: PageLab;
  }
}

/** Drops real files or folders on the page, as the system does. */
export async function drop(on: Page, paths: readonly string[]): Promise<void> {
  const session = await on.context().newCDPSession(on);
  const data = { items: [], files: [...paths], dragOperationsMask: 1 };
  for (const step of ['dragEnter', 'dragOver', 'drop'] as const) {
    await session.send('Input.dispatchDragEvent', { type: step, x: 400, y: 300, data });
  }
  await session.detach();
}
