/**
 * The laboratory's device is lost at random calls of its worker to WebGPU, while it opens a model, answers, sweeps, steers and writes:
 * what the page then has to save is what it has when nothing happens. Twice here, twenty times by `npm run losses`.
 */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CHROMIUM_FLAGS, ensureChromium } from '../../examples/lab/setup.mjs';
import { seededRandom } from '../../neurgrad/random.ts';
import { drawLosses } from '../losses/draw.ts';
import { answered } from './page.ts';
import { buildAndServe, type Site } from './site.ts';

const LOSSES = Number(process.env.LOSSES ?? 2);
/** In one page: more of them within a minute, and it asks before it goes on. */
const A_RUN = 2;
const SEED = Number(process.env.LOSSES_SEED ?? 1);
const HASH = `#m=stories260k&t=${encodeURIComponent('Once upon a time, there was a')}&n=L2.N7`;
const LOSE = readFileSync(new URL('../losses/lose.js', import.meta.url), 'utf8');

/** What of the page is called here. */
interface Lab {
  readonly view: Record<'sweep' | 'written' | 'distribution', object | null> & {
    readonly current: { readonly study: boolean };
    readonly state: { readonly shifts: readonly object[] };
    readonly written: { readonly moved: object | null } | null;
    readonly distribution: { readonly shifts: readonly object[] } | null;
  };
  readonly saved: object;
  sweep(reach: number): Promise<void>;
  steer(wish: number, neurons: number): Promise<void>;
  write(words: number): Promise<void>;
}

const { path: executablePath, problem } = ensureChromium();
if (!executablePath) console.error(`\n*** Losses in the laboratory are NOT tested: ${problem} ***\n`);

let folder: string;
let site: Site;
let browser: Browser;
let context: BrowserContext;

/** A page whose worker loses its devices at these calls. */
async function opened(places: Readonly<Record<number, string>>): Promise<Page> {
  const page = await context.newPage();
  await page.route(/\/worker[^/]*\.js$/, async (route) => {
    const response = await route.fetch();
    const at = `(n) => (${JSON.stringify(places)})[n] ?? null`;
    const body = `${LOSE}\nself.lossCalls = loseDevices(self, ${at});\n${await response.text()}`;
    await route.fulfill({ response, body });
  });
  await page.goto(`${site.url}${HASH}`);
  return page;
}

/** Everything that the page can be asked for, and what it then saves, without times and numbers of openings. */
async function used(page: Page): Promise<{ saved: string; calls: string[]; said: string; losses: number }> {
  const until = (done: (lab: Lab) => boolean): Promise<unknown> =>
    page.waitForFunction(`(${done})(window.neurgradLab)`, undefined, { timeout: 120_000 });
  await answered(page);
  await page.evaluate('void window.neurgradLab.sweep(2)');
  await until(({ view }) => view.sweep !== null && view.current.study);
  await page.evaluate('void window.neurgradLab.steer(0.3, 3)');
  await until(({ view }) => view.state.shifts.length > 0 && view.distribution?.shifts === view.state.shifts);
  await page.evaluate('void window.neurgradLab.write(6)');
  await until(
    ({ view }) =>
      !!view.written?.moved && view.current.study && view.distribution?.shifts === view.state.shifts,
  );
  const found = await page.evaluate(`JSON.stringify(window.neurgradLab.saved, (key, value) =>
    ArrayBuffer.isView(value) ? [...value] : ['took', 'serial'].includes(key) ? null : value)`);
  const [worker] = page.workers();
  const calls = (await worker!.evaluate('self.lossCalls')) as string[];
  const said = (await page.locator('#notice-text').textContent()) ?? '';
  const devices = calls.filter((call) => call === 'GPUAdapter.requestDevice').length;
  return { saved: found as string, calls, said, losses: devices - 1 };
}

describe.skipIf(!executablePath)('the laboratory', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'neurgrad-lab-losses-'));
    site = await buildAndServe(join(folder, 'site'));
    browser = await chromium.launch({ executablePath: executablePath!, args: [...CHROMIUM_FLAGS] });
    context = await browser.newContext({ serviceWorkers: 'block' });
    context.setDefaultTimeout(60_000);
  });
  afterAll(async () => {
    await browser?.close();
    site?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('has the same results whenever its device is lost', async () => {
    const quiet = await opened({});
    const { saved, calls, said } = await used(quiet);
    await quiet.close();
    expect(said).not.toMatch(/lost/);
    expect(JSON.parse(saved)).toMatchObject({ sweep: { curve: {} }, written: { moved: {} }, study: {} });
    expect(calls.length).toBeGreaterThan(500);
    const random = seededRandom(SEED);
    let told = 0;
    for (let done = 0; done < LOSSES; done += A_RUN) {
      const { places, name } = drawLosses(calls, A_RUN, random);
      const page = await opened(places);
      const lost = await used(page).catch(async (error: Error) => {
        const said = await page.locator('#notice-text').textContent();
        throw new Error(`lost ${name}: ${error.message}; the page says: ${said}`);
      });
      await page.close();
      expect(lost.saved, `lost ${name}`).toBe(saved);
      told += lost.losses;
      if (LOSSES > A_RUN)
        console.log(`laboratory, ${done + A_RUN} of ${LOSSES}: lost ${name}: the same results`);
    }
    console.log(`laboratory: ${told} of ${LOSSES} losses were met in the midst of work`);
    expect(told).toBeGreaterThanOrEqual(LOSSES / 2);
  });
});
