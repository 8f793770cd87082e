// The search's own threads: each keeps the lower-case texts of its parts, one string a row.

/** Puts a text into lower case without a change of positions. @param {string} text */
function lower(text) {
  const all = text.toLowerCase();
  if (all.length === text.length) return all;
  return Array.from(text, (letter) => (letter.toLowerCase().length === letter.length ? letter.toLowerCase() : letter)).join("");
}

/** Says which field each text of a row belongs to: a digit for each. */
function fieldsOf(head) {
  const fields = Array((head.u || []).length).fill(0);
  (head.a || []).forEach((answer, place) => {
    fields.push(place === head.c ? 1 : place === head.j ? 2 : 3);
    if (answer.w) fields.push(4);
    if (answer.r) fields.push(4);
  });
  return fields.join("");
}

function countIn(text, wanted) {
  let count = 0;
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) count++;
  return count;
}

/** Runs in a thread. A message has the number of a part, its bytes the first time, and what is wanted of it. */
function searchWorker() {
  /** @type {Map<number, {rows: string[], fields: string[]}>} */
  const parts = new Map();
  let queue = Promise.resolve();

  const answer = async ({ number, bytes, wanted, count }) => {
    if (bytes) {
      const from = await openPart(bytes);
      parts.set(number, { rows: from.heads.map((_, place) => lower(rowTexts(from, place))), fields: from.heads.map(fieldsOf) });
    }
    const { rows, fields } = parts.get(number);
    if (count === undefined) return rows.flatMap((text, place) => (text.includes(wanted) ? [place] : []));
    const counts = [0, 0, 0, 0, 0];
    rows[count].split("\0").forEach((text, at) => {
      if (at < fields[count].length) counts[fields[count][at]] += countIn(text, wanted);
    });
    return counts;
  };
  onmessage = ({ data }) => {
    queue = queue.then(() => answer(data)).then((found) => postMessage({ found }), (error) => postMessage({ error: String(error) }));
  };
}
