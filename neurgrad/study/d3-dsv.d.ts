/** What is used of d3-dsv, which comes without types. */
declare module 'd3-dsv' {
  interface Separated {
    /** Cells of each line, the head's too. */
    parseRows(text: string): string[][];
    formatRow(cells: readonly (string | number | boolean | null | undefined)[]): string;
  }
  export function dsvFormat(separator: string): Separated;
}
