/**
 * The colours of reports and figures. Figures carry those of a light page as plain values, so that a copy keeps them wherever it goes; a
 * page in the dark repaints them by its style. Words are at least 4.5 times as bright or dark as what is behind them, marks 3 times.
 */

export const LIGHT = {
  paper: '#fdfdfb',
  card: '#ffffff',
  ink: '#1d2330',
  muted: '#5c6676',
  line: '#dfe2e7',
  band: '#eef0f4',
  positive: '#2563b8',
  negative: '#b5491f',
  mark: '#fbe9c0',
} as const;

export type Colour = keyof typeof LIGHT;

export const DARK: Readonly<Record<Colour, string>> = {
  paper: '#14171d',
  card: '#1a1e26',
  ink: '#e6e8ec',
  muted: '#a3acba',
  line: '#2c323d',
  band: '#252b37',
  positive: '#6fa8f5',
  negative: '#ef8f66',
  mark: '#4a3d16',
};

/** `--ink: #1d2330; …` */
export const asVariables = (palette: Readonly<Record<Colour, string>>): string =>
  Object.entries(palette)
    .map(([name, value]) => `--${name}: ${value};`)
    .join(' ');

/** Rules that repaint figures drawn in {@link LIGHT} with a page's own variables. */
export const repainted: string = (Object.keys(LIGHT) as Colour[])
  .flatMap((name) =>
    ['fill', 'stroke'].map((part) => `figure svg [${part}="${LIGHT[name]}"] { ${part}: var(--${name}); }`),
  )
  .join('\n  ');
