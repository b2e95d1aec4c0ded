"use strict";
// The CSV that `abs bundle review --read` takes, written and read back.

const COLUMNS = ["bundle", "row", "class", "name", "kind", "text", "decision", "new_text", "reason", "reviewer"];

// As in abs_core/text.py: an apostrophe before what a spreadsheet would run, and a backslash before escapes.
const FORMULA = /([;|\t\r\n] *)('*)(?=[-=+@\t\r\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b])/g;
const ESCAPE = /\\(?:(\\|[nrt])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))/g;
const guarded = (text) => `\n${text}`.replace(FORMULA, "$1'$2").slice(1);
const spelled = (text) => guarded(text.startsWith("\\") ? `\\${text.replaceAll("\\", "\\\\")}` : text);
const quoted = (cell) => `"${cell.replaceAll('"', '""')}"`;

/** The text that a cell stands for. */
function textOfCell(cell) {
  const text = `\n${cell}`.replace(FORMULA, (_, before, marks) => before + marks.slice(1)).slice(1);
  const body = text.slice(1);
  if (!text.startsWith("\\") || body.replace(ESCAPE, "").includes("\\") || body.search(ESCAPE) < 0) return text;
  const short = { "\\": "\\", n: "\n", r: "\r", t: "\t" };
  return body.replace(ESCAPE, (_, name, ...codes) => short[name] ?? String.fromCodePoint(Number.parseInt(codes.find(Boolean), 16)));
}

/** The review file: a row for each sentence of the bundle, with its decision, and for each that was added. */
function reviewFile(review, bundle, reviewer) {
  const lines = [COLUMNS.join(",")];
  for (const group of review.classes) {
    const [id, name] = [group.id, group.shown].map(spelled);
    for (const sentence of review.all(group)) {
      const { decision, text, reason } = review.decision(sentence) ?? { decision: "", text: "", reason: "" };
      const row = sentence.added ? "" : sentence.id;
      const by = decision ? reviewer : "";
      const cells = [bundle, row, id, name, sentence.kind, sentence.cell ?? spelled(sentence.text), decision, ...[text, reason, by].map(spelled)];
      lines.push(cells.map(quoted).join(","));
    }
  }
  return `\ufeff${lines.join("\r\n")}\r\n`;
}

/** Save the review file through the browser; its name, in which the reviewer is. */
function downloadReview(review, { bundle, file }, reviewer) {
  const slug = reviewer.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[.-]+|-+$/g, "");
  const name = `${file}${slug ? `-${slug}` : ""}.csv`;
  const blob = new Blob([reviewFile(review, bundle, reviewer)], { type: "text/csv;charset=utf-8" });
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return name;
}

/** What is wrong with a file, for the reader. */
class FileProblem extends Error {}

/** The text of a file as spreadsheets save it. */
function decodedText(buffer) {
  const wide = { "255,254": "utf-16le", "254,255": "utf-16be" }[new Uint8Array(buffer).slice(0, 2).join()];
  try {
    return new TextDecoder(wide ?? "utf-8", { fatal: true }).decode(buffer);
  } catch {
    throw new FileProblem("It is not in UTF-8: save it as “CSV UTF-8”");
  }
}

/** The rows of a CSV text, {line, cells} each; commas, semicolons or tabs, whichever the first row has most of. */
function* tableRows(text) {
  const stated = /^"?sep=(.)"?[^\S\n]*(?=\n)/i.exec(text);
  const first = text.split(/[\r\n]/, 1)[0];
  const delimiter = stated?.[1] ?? [",", ";", "\t"].reduce((best, sign) => (first.split(sign).length > first.split(best).length ? sign : best));
  const end = new RegExp(`[\\r\\n${delimiter.replace(/[\\\]^-]/, "\\$&")}]|$`, "g");
  let [place, line] = [stated ? stated[0].length : 0, 1];
  while (place < text.length) {
    const row = { line, cells: [] };
    for (let more = true; more; ) {
      let cell = "";
      while (text[place] === '"') {
        const close = text.indexOf('"', place + 1);
        if (close < 0) throw new FileProblem(`Line ${row.line}: a quotation mark is not closed`);
        // two marks in a row are one of the text
        cell += text.slice(place + 1, close) + (text[close + 1] === '"' ? '"' : "");
        place = close + 1;
      }
      end.lastIndex = place;
      const stop = end.exec(text);
      cell += text.slice(place, stop.index);
      line += cell.split("\n").length - 1;
      row.cells.push(cell);
      more = stop[0] === delimiter;
      place = stop.index + (text.startsWith("\r\n", stop.index) ? 2 : 1);
    }
    line++;
    if (row.cells.some((cell) => cell.trim())) yield row;
  }
}

/** The decisions of a review file of this bundle, as `Review.decide` takes them; throws FileProblem. */
function readDecisions(text, review, bundle) {
  const rows = tableRows(text);
  const header = rows.next().value?.cells.map((cell) => cell.trim().toLowerCase()) ?? [];
  const missing = COLUMNS.slice(0, -1).filter((name) => !["name", "kind"].includes(name) && !header.includes(name));
  if (missing.length) throw new FileProblem(`It is no review file: it has no column “${missing[0]}”`);
  const classes = new Map(review.classes.map((group) => [group.id, group]));
  const changes = [];
  let reviewer = "";
  for (const { line, cells } of rows) {
    const values = Object.fromEntries(header.map((name, place) => [name, textOfCell(cells[place] ?? "").normalize("NFC").trim()]));
    if (values.bundle !== bundle) throw new FileProblem(`Line ${line}: it is of ${printable(values.bundle).slice(0, 120) || "no bundle"}, not of this one`);
    if (!values.decision) continue;
    changes.push(...rowChanges(values, line, review, classes));
    reviewer ||= values.reviewer ?? "";
  }
  return { changes, reviewer };
}

function rowChanges(values, line, review, classes) {
  const fail = (message) => {
    throw new FileProblem(`Line ${line}: ${message}`);
  };
  const { row, reason } = values;
  const decision = values.decision.toLowerCase();
  const text = ["edit", "add"].includes(decision) ? tidied(values.new_text) : "";
  if (decision === "add") {
    const group = classes.get(values.class) ?? fail(`there is no class “${printable(values.class).slice(0, 60)}”`);
    if (review.all(group).some((sentence) => sentence.added && review.text(sentence) === text)) return [];
    const problem = review.problem(text, group);
    if (problem) fail(problem);
    return [[review.newSentence(group, values.kind === "phrase" ? "phrase" : "sentence"), { decision, text, reason }]];
  }
  if (!DECISIONS.includes(decision)) fail(`unknown decision “${printable(decision).slice(0, 60)}”`);
  const sentence = review.sentence(row);
  if (!sentence || sentence.added) fail(`the bundle has no row “${printable(row).slice(0, 60)}”`);
  if (values.text !== sentence.text.trim()) fail("the text is not that of the bundle; changes belong into new_text");
  if (decision === "edit" && (!text || text === sentence.text)) fail("the decision is edit, and new_text is empty or the old text");
  return [[sentence, { decision, text, reason: decision === "accept" ? "" : reason }]];
}
