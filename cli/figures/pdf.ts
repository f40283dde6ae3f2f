/** A drawn figure as PDF: vectors, its type embedded, a page of its size. For Node and browsers, which load it when it is asked for. */

import PDFDocument from 'pdfkit';
import drawSvg from 'svg-to-pdfkit';
import type { Drawing } from './figure.ts';

/** What readers of PDF show of it. */
export interface PdfAbout {
  readonly title: string;
  readonly subject: string;
}

/**
 * @param text the drawing as SVG. @param font a TrueType font's bytes: the only one used.
 * @returns the file. The same drawing gives the same bytes.
 */
export function figurePdf(
  text: string,
  { width, height }: Pick<Drawing, 'width' | 'height'>,
  { title, subject }: PdfAbout,
  font: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  // No date: a page made again from the same record is the same.
  const info = { Title: title, Subject: subject, Creator: 'neurgrad', CreationDate: new Date(0) };
  const document = new PDFDocument({
    size: [width, height],
    margin: 0,
    info,
    font: font as unknown as string,
    lang: 'en',
    displayTitle: true,
  });
  const parts: Uint8Array[] = [];
  return new Promise((resolve, reject) => {
    document.on('data', (part: Uint8Array) => parts.push(part));
    document.on('error', reject);
    document.on('end', () => {
      const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const part of parts) {
        bytes.set(part, at);
        at += part.length;
      }
      resolve(bytes);
    });
    document.registerFont('figure', font as unknown as string);
    // Its millimetres are of pixels.
    const inPoints = text.replace(/ (width|height)="[\d.]+mm"/g, '');
    drawSvg(document as unknown as typeof PDFDocument, inPoints, 0, 0, {
      width,
      height,
      fontCallback: () => 'figure',
      assumePt: true,
      warningCallback: (warning) => reject(new Error(`figurePdf: ${warning}`)),
    });
    document.end();
  });
}
