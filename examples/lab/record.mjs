/**
 * Records the session that the laboratory plays where there is no WebGPU: `npm run lab:record`. The page's sources are TypeScript,
 * which Vite reads.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createServer } from 'vite';

const here = import.meta.dirname;
const server = await createServer({
  root: join(here, '../..'),
  configFile: false,
  logLevel: 'error',
  oxc: { target: 'es2022' },
  server: { middlewareMode: true, watch: null, ws: false },
  optimizeDeps: { noDiscovery: true },
});
try {
  const { record } = await server.ssrLoadModule('/examples/lab/src/recorded/record.ts');
  const { readRecording, writeRecording } = await server.ssrLoadModule(
    '/examples/lab/src/recorded/recording.ts',
  );
  const { writeWhole } = await server.ssrLoadModule('/engine/disk.ts');
  const { version } = JSON.parse(readFileSync(join(here, '../../package.json'), 'utf8'));
  const made = { at: new Date().toISOString(), by: 'npm run lab:record', neurgrad: version };
  const file = join(here, 'recordings/facts-bert.json');
  const text = writeRecording(await record(join(here, '../models'), made));
  // What the page would refuse is not written.
  readRecording(text, file);
  writeWhole(file, text);
  console.log(`${file}: ${(text.length / 1e3).toFixed(0)} kB`);
} finally {
  await server.close();
}
