// Searches all texts. The first search unpacks them part by part; their lower-case forms stay in memory for the next.

const FIELDS = ["prompt", META.sides[0], META.sides[1], "other answers", "judge and reasoning"];

/** @typedef {{texts: string[][], fields: Uint8Array[]}} Searched The texts of each row, and the field of each text. */
/** @type {Array<Searched | undefined>} */
const searched = [];
let searchRun = 0;

/** Puts a text into lower case without a change of positions. @param {string} text */
function lower(text) {
  const all = text.toLowerCase();
  if (all.length === text.length) return all;
  return Array.from(text, (letter) => (letter.toLowerCase().length === letter.length ? letter.toLowerCase() : letter)).join("");
}

/** Unpacks a part for searching. @param {number} number @returns {Promise<Searched>} */
async function searchable(number) {
  const found = searched[number];
  if (found) return found;
  const from = await readPart(number);
  const texts = from.heads.map((head, place) => textsOf(from, place).map(lower));
  return (searched[number] = { texts, fields: from.heads.map(fieldsOf) });
}

/** Reads the texts of a row one by one: a text without rare letters then takes one byte a letter in memory. */
function textsOf(from, place) {
  const texts = [];
  const end = from.starts[place] + from.heads[place].b;
  for (let at = from.starts[place]; at < end;) {
    const zero = from.bytes.indexOf(0, at);
    texts.push(decoder.decode(from.bytes.subarray(at, zero)));
    at = zero + 1;
  }
  return texts;
}

/** Says which field each text of a row belongs to. */
function fieldsOf(head) {
  const fields = Array((head.u || []).length).fill(0);
  (head.a || []).forEach((answer, place) => {
    fields.push(place === head.c ? 1 : place === head.j ? 2 : 3);
    if (answer.w) fields.push(4);
    if (answer.r) fields.push(4);
  });
  return Uint8Array.from(fields);
}

/**
 * Finds the rows whose texts hold a query.
 * @param {string} query
 * @param {(hits: Uint8Array, count: number, done: number) => void} report called while it goes on
 * @returns {Promise<boolean>} false where a later search took over
 */
async function searchTexts(query, report) {
  const run = ++searchRun;
  const wanted = lower(query);
  const hits = new Uint8Array(META.rows);
  let count = 0;
  let last = performance.now();
  /** @type {Promise<Searched>[]} */
  const ahead = [];
  const parts = META.chunks.length;
  for (let number = 0; number < parts; number++) {
    while (ahead.length < 3 && number + ahead.length < parts) ahead.push(searchable(number + ahead.length));
    const found = searched[number] ? (ahead.shift(), searched[number]) : await ahead.shift();
    if (run !== searchRun) return false;
    const start = META.chunks[number];
    for (let place = 0; place < found.texts.length; place++) {
      if (found.texts[place].some((text) => text.includes(wanted))) {
        hits[start + place] = 1;
        count++;
      }
    }
    if (performance.now() - last > 250) {
      report(hits, count, (number + 1) / parts);
      await new Promise((done) => setTimeout(done));
      if (run !== searchRun) return false;
      last = performance.now();
    }
  }
  report(hits, count, 1);
  return true;
}

/** Stops the search that is under way. */
function stopSearch() {
  searchRun++;
}

/** Counts the hits of a row in each field. @param {number} row @param {string} query */
function hitsOf(row, query) {
  const number = partOf(row);
  const found = searched[number];
  if (!found || !query) return "";
  const place = row - META.chunks[number];
  const counts = [0, 0, 0, 0, 0];
  const wanted = lower(query);
  found.texts[place].forEach((text, at) => {
    counts[found.fields[place][at] ?? 4] += countIn(text, wanted);
  });
  return FIELDS.map((field, at) => (counts[at] ? `${field} ${counts[at]}` : "")).filter(Boolean).join(" · ");
}

function countIn(text, wanted) {
  let count = 0;
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) count++;
  return count;
}
