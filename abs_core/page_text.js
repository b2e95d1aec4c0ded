"use strict";
// Text from outside, shown and searched by the scripts of every page.

// What hides, reorders or leaves its line; joiners stay where emoji and scripts need them.
const UNSAFE = /(?<![\p{L}\p{M}\p{Extended_Pictographic}\ufe0f])[\u200c\u200d]|(?![\u200c\u200d])[\p{C}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0]/gu;
// More than four marks on a letter climb over the lines above.
const MARKS = /(\p{M}{4})\p{M}+/gu;

/** A text with escapes for each character that could hide or move others. */
function printable(text) {
  return text.replace(MARKS, "$1…").replace(UNSAFE, (character) => {
    const code = character.codePointAt(0).toString(16);
    return code.length < 3 ? `\\x${code.padStart(2, "0")}` : code.length < 5 ? `\\u${code.padStart(4, "0")}` : `\\U${code.padStart(8, "0")}`;
  });
}

/** Lower case without accents, for a search. */
function folded(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}
