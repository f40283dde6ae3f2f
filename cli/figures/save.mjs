/**
 * Saves a page's figures, in the page and without a network: as SVG, as PNG of 300 dots an inch, their data as CSV. Reports hold this text
 * as it is, so it imports nothing.
 */

/** Dots an inch, as papers ask for. */
const DENSITY = 300;
const POINTS_PER_INCH = 72;

/** A figure of a page with its caption, as a file of its own. A page crops the caption, which it sets itself. */
export function svgFile(figure) {
  const copy = figure.cloneNode(true);
  const [, , width] = copy.getAttribute('viewBox').split(' ');
  const height = copy.dataset.height ?? copy.getAttribute('viewBox').split(' ')[3];
  copy.setAttribute('viewBox', `0 0 ${width} ${height}`);
  copy.setAttribute('height', `${Math.round((height * 2540) / POINTS_PER_INCH) / 100}mm`);
  copy.removeAttribute('data-height');
  return `${new XMLSerializer().serializeToString(copy)}\n`;
}

/** PNG's pHYs chunk of 11,811 dots a metre, with its checksum: programs then set the picture at its printed size. */
const PHYSICAL = [
  0, 0, 0, 9, 0x70, 0x48, 0x59, 0x73, 0, 0, 0x2e, 0x23, 0, 0, 0x2e, 0x23, 1, 0x78, 0xa5, 0x3f, 0x76,
];
/** Signature and header, which comes first. */
const HEADER = 33;

/** @param text of {@link svgFile}. @returns a blob. */
export async function pngFile(text) {
  const [, , width, height] = /viewBox="([^"]*)"/.exec(text)[1].split(' ').map(Number);
  const scale = DENSITY / POINTS_PER_INCH;
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const image = new Image(canvas.width, canvas.height);
  // An address of the page's own would taint the canvas of a page that is opened as a file.
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const context = canvas.getContext('2d');
  context.fillStyle = 'white';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  return new Blob([blob.slice(0, HEADER), new Uint8Array(PHYSICAL), blob.slice(HEADER)], {
    type: 'image/png',
  });
}

/** Hands a file to the browser. */
export function saveFile(name, content) {
  const href = URL.createObjectURL(content);
  Object.assign(document.createElement('a'), { href, download: name }).click();
  // Some browsers read the address only after the click's event is over.
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/** Makes a report's links save what the page holds; without this they lead to the files beside it. */
export function saveFromPage() {
  for (const figure of document.querySelectorAll('figure[data-name]')) {
    const { name } = figure.dataset;
    const make = {
      svg: () => new Blob([svgFile(figure.querySelector('svg'))], { type: 'image/svg+xml' }),
      png: () => pngFile(svgFile(figure.querySelector('svg'))),
      csv: () => new Blob([figure.querySelector('.data').textContent], { type: 'text/csv' }),
    };
    for (const link of figure.querySelectorAll('a[data-save]')) {
      link.hidden = false;
      link.addEventListener('click', async (event) => {
        event.preventDefault();
        saveFile(`${name}.${link.dataset.save}`, await make[link.dataset.save]());
      });
    }
  }
}
