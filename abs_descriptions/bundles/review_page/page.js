"use strict";
// Marks decisions on the rows of the page and saves them as the CSV that `abs bundle review --read` takes.
const bundle = document.body.dataset.bundle;
const rows = [...document.querySelectorAll("li[data-row]")];
const state = new Map();
const memory = "abs-review " + bundle;
const CHOICES = ["accept", "edit", "reject"];
const COLUMNS = ["bundle", "row", "class", "name", "kind", "text", "decision", "new_text", "reason"];
let saved = true;

const textOf = (row) => row.dataset.text ?? row.querySelector("p span").textContent;

function make(tag, set) {
  return Object.assign(document.createElement(tag), set);
}

// An edit that changes nothing is no decision.
function decisionOf(row) {
  const mark = state.get(row.dataset.row);
  if (!mark) return { decision: "", new_text: "", reason: "" };
  const text = mark.new_text.replace(/\s*[\r\n]+\s*/g, " ").trim();
  if (mark.decision === "edit" && (text === "" || text === textOf(row))) return { decision: "", new_text: "", reason: "" };
  return {
    decision: mark.decision,
    new_text: mark.decision === "edit" ? text : "",
    reason: mark.decision === "accept" ? "" : mark.reason.trim(),
  };
}

function addField(row, tag, key, label) {
  const field = make(tag, { value: state.get(row.dataset.row)[key], placeholder: label, ariaLabel: label, maxLength: 4000 });
  if (tag === "textarea") field.rows = 2;
  field.addEventListener("input", () => {
    state.get(row.dataset.row)[key] = field.value;
    changed();
  });
  row.querySelector(".more").append(field);
  return field;
}

function show(row) {
  const mark = state.get(row.dataset.row);
  if (mark) row.dataset.decision = mark.decision;
  else delete row.dataset.decision;
  for (const button of row.querySelectorAll("button")) {
    button.ariaPressed = String(mark?.decision === button.dataset.choice);
  }
  row.querySelector(".more")?.remove();
  if (mark?.decision === "edit" || mark?.decision === "reject") row.append(make("div", { className: "more" }));
  const field = mark?.decision === "edit" ? addField(row, "textarea", "new_text", "The new text") : null;
  const why = field || mark?.decision === "reject" ? addField(row, "input", "reason", "Why? (optional)") : null;
  return field ?? why;
}

function choose(row, decision) {
  const id = row.dataset.row;
  const mark = state.get(id);
  if (mark?.decision === decision) state.delete(id);
  else state.set(id, { decision, new_text: mark?.new_text || textOf(row), reason: mark?.reason ?? "" });
  const field = show(row);
  changed();
  return field;
}

let waiting = 0;
function changed() {
  saved = false;
  const done = rows.filter((row) => decisionOf(row).decision).length;
  document.getElementById("count").textContent = `${done} of ${rows.length} decided`;
  document.querySelector("progress").value = done;
  document.getElementById("save").disabled = done === 0;
  clearTimeout(waiting);
  waiting = setTimeout(remember, 300);
}

function remember() {
  try {
    localStorage.setItem(memory, JSON.stringify([...state]));
  } catch {
    // A browser may refuse storage to a file; the page then warns before it is closed.
  }
}

function recall() {
  try {
    const known = new Set(rows.map((row) => row.dataset.row));
    for (const [id, mark] of JSON.parse(localStorage.getItem(memory) ?? "[]")) {
      if (known.has(id) && CHOICES.includes(mark.decision)) {
        state.set(id, { decision: mark.decision, new_text: String(mark.new_text), reason: String(mark.reason) });
      }
    }
  } catch {
    state.clear();
  }
}

// As in abs_core/text.py: an apostrophe before what a spreadsheet would run, and a backslash before escapes.
const FORMULA = /([;|\t\r\n] *)('*)(?=[-=+@\t\r\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b])/g;
const guarded = (text) => ("\n" + text).replace(FORMULA, "$1'$2").slice(1);
const spelled = (text) => guarded(text.startsWith("\\") ? "\\" + text.replaceAll("\\", "\\\\") : text);
const quoted = (cell) => '"' + cell.replaceAll('"', '""') + '"';

function reviewFile() {
  const lines = [COLUMNS.join(",")];
  for (const row of rows) {
    const { decision, new_text, reason } = decisionOf(row);
    const label = row.closest("section").dataset;
    const kind = row.dataset.kind ?? "sentence";
    const before = [bundle, row.dataset.row, label.class, label.name, kind].map(spelled);
    const cells = [...before, row.dataset.cell ?? spelled(textOf(row)), ...[decision, new_text, reason].map(spelled)];
    lines.push(cells.map(quoted).join(","));
  }
  return "\ufeff" + lines.join("\r\n") + "\r\n";
}

function save() {
  const link = make("a", {
    href: URL.createObjectURL(new Blob([reviewFile()], { type: "text/csv;charset=utf-8" })),
    download: document.body.dataset.file,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  saved = true;
}

function step(row, by) {
  const seen = rows.filter((one) => one.checkVisibility());
  seen[seen.indexOf(row) + by]?.focus();
}

function onKey(event) {
  const row = event.target;
  if (!row.matches("li[data-row]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = {
    a: () => choose(row, "accept"),
    e: () => choose(row, "edit")?.focus(),
    r: () => choose(row, "reject"),
    j: () => step(row, 1),
    ArrowDown: () => step(row, 1),
    k: () => step(row, -1),
    ArrowUp: () => step(row, -1),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function start() {
  recall();
  for (const row of rows) {
    row.tabIndex = 0;
    const choices = make("div", { className: "choices" });
    for (const choice of CHOICES) {
      const button = make("button", { type: "button", textContent: choice[0].toUpperCase() + choice.slice(1) });
      button.dataset.choice = choice;
      choices.append(button);
    }
    row.append(choices);
    show(row);
  }
  document.querySelector("progress").max = rows.length;
  document.querySelector("main").addEventListener("click", (event) => {
    const choice = event.target.dataset.choice;
    if (choice) choose(event.target.closest("li"), choice)?.focus();
  });
  document.addEventListener("keydown", onKey);
  document.getElementById("save").addEventListener("click", save);
  document.getElementById("filter").addEventListener("change", (event) => (document.body.className = event.target.value));
  addEventListener("beforeunload", (event) => saved || event.preventDefault());
  changed();
  saved = true;
}

start();
