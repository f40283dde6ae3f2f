import { parseHTML } from 'linkedom';
import { describe, expect, it } from 'vitest';
import { renderReport } from '../../cli/report.ts';
import { exampleReport } from './exampleReport.ts';

const { html: page } = renderReport(exampleReport());
const { document } = parseHTML(page);

describe('the report', () => {
  it('holds everything itself', () => {
    const shown = page.replace(/<script type="module">[\s\S]*?<\/script>/, '');
    expect(shown).not.toMatch(/<script|<link|<img|@import|url\((?!#)/i);
    expect(page.match(/<script/g)).toHaveLength(1);
    // Namespaces of SVG are names, not requests.
    expect(page.replaceAll(/xmlns(:\w+)?="[^"]*"/g, '')).not.toMatch(/https?:\/\//);
    expect(page.length).toBeLessThan(400_000);
  });
  it('shows text as text', () => {
    expect(page).not.toContain('<b>France</b>');
    expect(document.querySelector('h1')!.textContent).toBe('The capital of <b>France</b> & co is paris.');
    expect(document.querySelector('.bars tr:nth-child(2) th')!.textContent).toBe('<lyon>');
  });
  it('draws a figure for each of the chosen curves and two summaries', () => {
    expect(document.querySelectorAll('.grid figure svg')).toHaveLength(12);
    expect(document.querySelectorAll('.pair svg')).toHaveLength(2);
    for (const svg of document.querySelectorAll('svg')) {
      expect(svg.getAttribute('aria-label')).toBeTruthy();
      expect(svg.outerHTML).not.toContain('NaN');
    }
  });
  it('lists the strongest by NeurGrad, positive first, and the draw apart', () => {
    const tables = [...document.querySelectorAll('section table')];
    const first = tables.find((table) => table.textContent!.includes('polarity'))!;
    const polarities = [...first.querySelectorAll('tbody .polarity')].map((cell) => cell.textContent);
    expect(polarities).toEqual(['+', '+', '+', '+', '−', '−', '−', '−']);
    expect(document.querySelectorAll('details tbody tr')).toHaveLength(5);
  });
  it('says how it was computed', () => {
    const method = document.querySelector('.method')!.textContent!;
    for (const said of [
      'site post, of prob, direction outward, sign +, float32',
      'engine naive',
      'seed 1',
      'ab'.repeat(32),
      'example adapter, software',
      'webgpu 0.0.0',
    ]) {
      expect(method).toContain(said);
    }
  });
  it('shows intervals and n, or says why there is none', () => {
    const text = document.body.textContent!.replace(/\s+/g, ' ');
    expect(text).toContain('random neurons; 95% 0.9987 to 0.9993');
    expect(text).toContain(
      'Pearson 0.9991 [0.9987, 0.9993]. n = 12 neurons of one prompt. Brackets: 95% over neurons.',
    );
    expect(text).toContain('Band: 95% over neurons');
    const report = exampleReport();
    const few = { interval: null, effective: null, reason: '5 neurons: an interval needs 10', count: 5 };
    const { study } = report;
    const { random, all } = study.comparison;
    const { html: page } = renderReport({
      ...report,
      study: {
        ...study,
        comparison: { random: { ...random, pearson: { ...random.pearson, ...few } }, all },
        straightness: study.straightness.map((one) => ({ ...one, meanR: { ...one.meanR, ...few } })),
      },
    });
    expect(page).toContain('random neurons; no interval: 5 neurons: an interval needs 10');
    expect(page).toContain('No band: 5 neurons: an interval needs 10');
  });
  it.each(['[MASK]', '<mask>'])('has the answer in place of %s', (mask) => {
    expect(renderReport(exampleReport(`It is ${mask}.`)).html).toMatch(
      /<h1>It is <mark>[^<]+<\/mark>\.<\/h1>/,
    );
  });
  it('does not fall over a prompt without a mask, or a flat neuron', () => {
    const report = exampleReport('Once upon a time');
    const [first, ...rest] = report.study.sweep.neurons;
    const p = first!.shifts.map(() => 0.5);
    const flat = { ...first!, p, values: p, flat: true, r: 0, slope: 0, polarity: 0 as const };
    const { html: drawn } = renderReport({
      ...report,
      study: { ...report.study, sweep: { ...report.study.sweep, neurons: [flat, ...rest] } },
    });
    expect(drawn).toContain('Once upon a time');
    expect(drawn).not.toContain('NaN');
  });
});
