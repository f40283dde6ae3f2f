/** What the first answer does not need: the page fetches it, in one file, when the first answer is there. */

export { CompareCard } from './compare.ts';
export { drawCurve } from './curve.ts';
export { saveCurve, saveMap } from './figures.ts';
export { openGlossary } from './glossary.ts';
export { NotebookCard } from './notebookCard.ts';
export { Tour } from './tour.ts';
