/** Types of save.mjs. */

export function svgFile(figure: SVGSVGElement): string;
export function pngFile(text: string): Promise<Blob>;
export function saveFile(name: string, content: Blob): void;
export function saveFromPage(): void;
