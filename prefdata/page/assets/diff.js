// What differs between two texts, word by word: words are found by the browser's own segmenter, in any language.

const MOST_TOKENS = 3000;
const words = new Intl.Segmenter("und", { granularity: "word" });

/** @typedef {{kind: "same" | "del" | "ins", text: string}} Piece */

/** @param {string} text @returns {string[]} */
function tokens(text) {
  return Array.from(words.segment(text), (part) => part.segment);
}

/**
 * Compares two texts; long ones by paragraphs first.
 * @param {string} one @param {string} other @returns {Piece[]}
 */
function diffTexts(one, other) {
  const [first, second] = [tokens(one), tokens(other)];
  if (Math.max(first.length, second.length) <= MOST_TOKENS) return merged(diffLists(first, second));
  const paragraphs = diffLists(one.split(/(?<=\n)/), other.split(/(?<=\n)/));
  return merged(blocks(paragraphs).flatMap(({ same, del, ins }) => {
    const [gone, come] = [tokens(del), tokens(ins)];
    const inside = Math.max(gone.length, come.length) <= MOST_TOKENS
      ? diffLists(gone, come)
      : [{ kind: "del", text: del }, { kind: "ins", text: ins }];
    return [{ kind: "same", text: same }, ...inside];
  }));
}

/** Groups pieces into what is the same, and what stands in its place on either side after it. */
function blocks(pieces) {
  const found = [{ same: "", del: "", ins: "" }];
  for (const piece of pieces) {
    const last = found[found.length - 1];
    if (piece.kind === "same" && (last.del || last.ins)) found.push({ same: piece.text, del: "", ins: "" });
    else last[piece.kind] += piece.text;
  }
  return found;
}

/** Compares two lists by their longest common subsequence. @returns {Piece[]} */
function diffLists(first, second) {
  const ids = new Map();
  const [a, b] = [first, second].map((list) => list.map((item) => {
    if (!ids.has(item)) ids.set(item, ids.size);
    return ids.get(item);
  }));
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const middle = longestCommon(a.slice(start, a.length - end), b.slice(start, b.length - end));
  const pieces = first.slice(0, start).map((text) => ({ kind: "same", text }));
  for (const [kind, at] of middle) pieces.push({ kind, text: (kind === "ins" ? second : first)[start + at] });
  return pieces.concat(first.slice(first.length - end).map((text) => ({ kind: "same", text })));
}

/** @param {number[]} a @param {number[]} b @returns {Array<["same" | "del" | "ins", number]>} kind and place */
function longestCommon(a, b) {
  const width = b.length + 1;
  const best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * width + j;
      best[at] = a[i] === b[j] ? best[at + width + 1] + 1 : Math.max(best[at + width], best[at + 1]);
    }
  }
  const steps = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) { steps.push(["same", i]); i++; j++; }
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) steps.push(["del", i++]);
    else steps.push(["ins", j++]);
  }
  while (i < a.length) steps.push(["del", i++]);
  while (j < b.length) steps.push(["ins", j++]);
  return steps;
}

/** Joins neighbours, so that what differs reads as phrases: space between two changed words is changed with them. */
function merged(pieces) {
  const found = [];
  let [del, ins] = ["", ""];
  const flush = () => {
    if (del) found.push({ kind: "del", text: del });
    if (ins) found.push({ kind: "ins", text: ins });
    [del, ins] = ["", ""];
  };
  const joined = joinEqual(pieces);
  joined.forEach((piece, at) => {
    const loose = piece.kind === "same" && at > 0 && at < joined.length - 1 && !/[\p{L}\p{N}]/u.test(piece.text);
    if (piece.kind === "del" || loose) del += piece.text;
    if (piece.kind === "ins" || loose) ins += piece.text;
    if (piece.kind === "same" && !loose) {
      flush();
      found.push(piece);
    }
  });
  flush();
  return found;
}

/** Joins neighbours of one kind. @param {Piece[]} pieces @returns {Piece[]} */
function joinEqual(pieces) {
  const found = [];
  for (const piece of pieces) {
    const last = found[found.length - 1];
    if (last && last.kind === piece.kind) last.text += piece.text;
    else if (piece.text) found.push({ ...piece });
  }
  return found;
}
