// Reads what the page holds: the columns of the list, and the texts in parts that are unpacked when they are needed.

const META = JSON.parse(byId("meta").textContent || "{}");
const NOTHING = Object.freeze([]);
const KEPT_PARTS = 6;

/** @type {Record<string, any>} Column → its values, one a row. */
const columns = {};
/** @type {Record<string, any>} Column → its description. */
const described = Object.fromEntries(META.columns.map((column) => [column.name, column]));

/** @param {string} text base64 @returns {Uint8Array} */
function unpackBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}

/**
 * Unpacks bytes without leaving the turn of the event loop: a page that is still read would take the next one.
 * @param {Uint8Array} bytes @returns {Promise<Uint8Array>}
 */
async function inflate(bytes) {
  const { readable, writable } = new DecompressionStream("deflate");
  const writer = writable.getWriter();
  const written = Promise.all([writer.write(bytes), writer.close()]);
  const pieces = [];
  let size = 0;
  for await (const piece of readable) {
    pieces.push(piece);
    size += piece.length;
  }
  await written;
  const all = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

/** Gives an element of the data, which a page that was cut off lacks. @param {string} id @returns {HTMLElement} */
function dataElement(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error("A part of this page is missing: save or download it again.");
  return element;
}

/** Unpacks what an element holds, and removes it. @param {string} id @returns {Promise<Uint8Array>} */
async function takeBytes(id) {
  const element = dataElement(id);
  element.remove();
  return inflate(unpackBase64(element.textContent || ""));
}

async function takeTexts(id) {
  return JSON.parse(new TextDecoder().decode(await takeBytes(id)));
}

/** Reads every column of the list; of texts, those of the first rows. */
async function readColumns() {
  await Promise.all(META.columns.map(async ({ name, kind }) => {
    if (kind === "text") columns[name] = await takeTexts(`column-${name}`);
    else if (kind === "number") columns[name] = new Float64Array((await takeBytes(`column-${name}`)).buffer);
    else columns[name] = new Uint16Array((await takeBytes(`column-${name}`)).buffer);
  }));
}

/** Says whether the list has the texts of all rows. */
function isWhole() {
  return META.columns.every(({ name }) => columns[name].length === META.rows);
}

/** @type {Array<() => void>} What was asked for before it had. */
const postponed = [];
// Of a file that was cut off, the end may come without them.
const textsRead = new Promise((done) => {
  addEventListener("texts", done, { once: true });
  document.addEventListener("DOMContentLoaded", done, { once: true });
});

/** Reads the texts of all other rows of the list, which stand behind the program, and does what waits for them. */
async function readRest() {
  if (isWhole()) return;
  await textsRead;
  await Promise.all(META.columns.filter(({ kind }) => kind === "text").map(async ({ name }) => {
    columns[name] = columns[name].concat(await takeTexts(`rest-${name}`));
  }));
  for (const action of postponed.splice(0)) action();
}

/** Does what needs the names or texts of all rows, as soon as they are there. @param {() => void} action */
function whenWhole(action) {
  if (isWhole()) action();
  else postponed.push(action);
}

/**
 * Gives the value of a row: a number or null, a text, or the names of its flags.
 * @param {string} name @param {number} row
 */
function valueOf(name, row) {
  const column = described[name];
  if (!column) return null;
  const value = columns[name][row];
  if (column.kind === "number") return Number.isNaN(value) ? null : value;
  if (column.kind === "category") return value ? column.values[value - 1] : null;
  if (column.kind === "flags") return value ? column.values.filter((_, bit) => value & (1 << bit)) : NOTHING;
  return value;
}

/** Gives the part that holds a row. @param {number} row */
function partOf(row) {
  let low = 0;
  let high = META.chunks.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (META.chunks[middle] <= row) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** @type {Map<number, (data: string) => void>} Parts that were asked for as scripts. */
const awaited = new Map();
/** @type {Map<number, Promise<string>>} */
const scripts = new Map();
globalThis.prefdataChunk = (number, data) => awaited.get(number)?.(data);

/** Reads the packed text of a part. @param {number} number @returns {Promise<string>} */
async function packedPart(number) {
  if (META.beside) return scriptPart(number);
  if (!document.getElementById(`c${number}`) && document.readyState === "loading") {
    await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
  }
  return dataElement(`c${number}`).textContent || "";
}

/** Reads a part from the script beside the page, once for all who ask at the same time. @param {number} number @returns {Promise<string>} */
function scriptPart(number) {
  const asked = scripts.get(number);
  if (asked) return asked;
  const script = h("script", { src: `data/c${number}.js` });
  const loaded = new Promise((done, failed) => {
    awaited.set(number, done);
    script.addEventListener("error", () => failed(new Error(`The file data/c${number}.js is not beside this page: keep the folder together.`)));
    document.head.append(script);
  }).finally(() => {
    awaited.delete(number);
    scripts.delete(number);
    script.remove();
  });
  scripts.set(number, loaded);
  return loaded;
}

/** @typedef {{heads: any[], starts: number[], bytes: Uint8Array}} Part */

/** Opens a part. @param {Uint8Array} packed @returns {Promise<Part>} */
async function openPart(packed) {
  const bytes = await inflate(packed);
  const end = bytes.indexOf(10);
  const heads = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  const starts = [];
  let at = end + 1;
  for (const head of heads) {
    starts.push(at);
    at += head.b;
  }
  return { heads, starts, bytes };
}

/** Reads the packed bytes of a part. @param {number} number */
async function partBytes(number) {
  return unpackBase64(await packedPart(number));
}

/** @type {Map<number, Promise<Part>>} The parts that were used last. */
const kept = new Map();

/** Gives a part, from memory where it was used lately. @param {number} number */
function part(number) {
  const found = kept.get(number) || partBytes(number).then(openPart);
  kept.delete(number);
  kept.set(number, found);
  found.catch(() => kept.delete(number));
  if (kept.size > KEPT_PARTS) kept.delete(kept.keys().next().value);
  return found;
}

/** Gives all texts of a row in one, each followed by a zero. @param {Part} from @param {number} place */
function rowTexts(from, place) {
  const start = from.starts[place];
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(from.bytes.subarray(start, start + from.heads[place].b));
}

/** Reads one row with all its texts. @param {number} row */
async function readRow(row) {
  const number = partOf(row);
  const found = await part(number);
  const place = row - META.chunks[number];
  const head = found.heads[place];
  const all = rowTexts(found, place);
  let at = 0;
  const texts = head.n.map((length) => {
    const text = all.slice(at, at + length);
    at += length + 1;
    return text;
  });
  const turns = (head.u || []).map((role) => ({ role, text: texts.shift() }));
  const answers = (head.a || []).map((answer) => ({
    source: answer.s, index: answer.x, model: answer.m, score: answer.v, length: answer.l, finish: answer.f,
    note: answer.n, seed: answer.d, missing: answer.t === 0,
    text: texts.shift(),
    words: answer.w ? texts.shift() : null,
    reasoning: answer.r ? texts.shift() : null,
  }));
  return {
    row, id: head.i, number: head.k || 0, turns, answers, chosen: head.c, rejected: head.j, outcome: head.o || "pair",
    stage: head.g, detail: head.e, why: head.y || {}, matches: head.m || [],
  };
}

/** Names a row in an address: its prompt's id, and the number of the pair where a prompt has several. */
function keyOf(row) {
  return keys().names[row];
}

/** @type {{names: string[], rows: Map<string, number>} | null} */
let keyTable = null;

/** Names all rows, each name once. */
function keys() {
  if (keyTable) return keyTable;
  const rows = new Map();
  const names = columns.id.map((id, row) => {
    let name = id;
    for (let again = 1; rows.has(name); again++) name = `${id}~${again}`;
    rows.set(name, row);
    return name;
  });
  keyTable = { names, rows };
  return keyTable;
}
