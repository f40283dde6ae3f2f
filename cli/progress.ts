/**
 * Progress of long work on standard error: a bar with rate and remaining time on a terminal, a plain line every few
 * seconds in a log.
 */

import { Presets, SingleBar } from 'cli-progress';

export interface Progress {
  /** A count that is smaller than the one before begins anew, and so does its time. */
  update(done: number, all: number): void;
  /** Ends the bar's line. Safe to call twice. */
  stop(): void;
}

/** Seconds between two lines of a log: more of them as the work goes on. */
const logSeconds = (spent: number): number => Math.max(5, Math.min(60, spent / 20));

const perSecond = (rate: number): string => (rate < 10 ? rate.toFixed(1) : `${Math.round(rate)}`);

function duration(seconds: number): string {
  if (seconds < 120) return `${Math.ceil(seconds)} s`;
  return seconds < 7200 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/**
 * @param label what is being done.
 * @param unit what is counted, in the plural.
 */
export function startProgress(
  label: string,
  unit: string,
  stream: NodeJS.WriteStream = process.stderr,
): Progress {
  return stream.isTTY ? bar(label, unit, stream) : lines(label, unit, stream);
}

/** Seconds since the count began; one that is smaller than the one before begins anew. */
function stopwatch(): (done: number) => number {
  let began = performance.now();
  let before = 0;
  return (done) => {
    const now = performance.now();
    if (done < before) began = now;
    before = done;
    return (now - began) / 1000;
  };
}

function bar(label: string, unit: string, stream: NodeJS.WriteStream): Progress {
  const single = new SingleBar(
    {
      format: `${label} {bar} {percentage}% | {value}/{total} ${unit} | {rate}/s | {eta_formatted} left`,
      stream,
      hideCursor: true,
      clearOnComplete: true,
      etaBuffer: 50,
    },
    Presets.rect,
  );
  const secondsOf = stopwatch();
  let started = false;
  return {
    update(done, all) {
      const seconds = secondsOf(done);
      if (!started) {
        single.start(all, 0, { rate: '–' });
        started = true;
      }
      single.update(done, { rate: perSecond(done / Math.max(seconds, 1e-3)) });
    },
    stop() {
      single.stop();
    },
  };
}

function lines(label: string, unit: string, stream: NodeJS.WriteStream): Progress {
  const secondsOf = stopwatch();
  let told = performance.now();
  let before = -1;
  return {
    update(done, all) {
      const now = performance.now();
      const seconds = secondsOf(done);
      // The end is told once.
      if (done === before && done === all) return;
      before = done;
      if (done < all && now - told < logSeconds(seconds) * 1000) return;
      told = now;
      const rate = done / Math.max(seconds, 1e-3);
      const left = done === 0 ? '' : `, ${duration((all - done) / rate)} left`;
      stream.write(
        `${label}: ${done}/${all} ${unit}, ${perSecond(rate)}/s${done < all ? left : `, ${seconds.toFixed(1)} s`}\n`,
      );
    },
    stop() {},
  };
}
