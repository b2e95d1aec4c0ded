"use strict";
// Words and figures, and the card of an image in the grid.

const element = (id) => document.getElementById(id);
const ACTIONS = { accept: "Accepted", label: "Labelled", reject: "None of these", undo: "Not decided" };
const STATUS_NAMES = {
  labelled: "Labelled", doubtful: "Doubtful", rejected: "Rejected", failed: "Failed", vanished: "Vanished", reviewed: "Reviewed",
};
const MISSING = { failed: "Cannot be read", vanished: "No longer there" };
const number = (value) => value.toLocaleString("en");
const counted = (value, singular, plural) => `${number(value)} ${value === 1 ? singular : plural}`;

/** A confidence in [0, 1] as per cent; never 100 nor 0 for what is only near. */
function percent(value) {
  if (value === null || value === undefined) return "";
  if (value >= 0.995 && value < 1) return "> 99 %";
  if (value < 0.005 && value > 0) return "< 1 %";
  return `${Math.round(100 * value)} %`;
}

/** What is decided, in words. */
function decisionText(decision) {
  if (!decision) return "Not decided";
  return decision.conflict ? "Reviewers disagree" : `${ACTIONS[decision.action]} by ${printable(decision.reviewer)}`;
}

/** What a reviewer says of an image, in words; a file of decisions may have classes that this run has not. */
function outcome({ action, label }, names) {
  return action === "reject" ? "None of these" : (names[label] ?? "A class of another run");
}

/** The label of a row with what was decided of it, and the line below. */
function cardTexts(row, decision, names) {
  const said = (opinion) => outcome(opinion, names);
  if (decision?.conflict) return [[decision, ...decision.others].map(said).join(" / "), "reviewers disagree"];
  if (decision && decision.action !== "accept") return [said(decision), row.label === null ? "" : `was ${names[row.label]}`];
  const label = row.label === null ? (MISSING[row.status] ?? "No label") : names[row.label];
  return [label, row.ranking[1] ? `or ${names[row.ranking[1][0]]}` : printable(row.reason)];
}

/** How sure the model is of the class that a card names; null where it names none, or one that is not among its best. */
function namedConfidence(row, decision) {
  if (!decision || (decision.action === "accept" && !decision.conflict)) return row.confidence;
  if (decision.conflict || decision.action === "reject") return null;
  return row.ranking.find(([position]) => position === decision.label)?.[1] ?? null;
}

/** Show a row in a cell that is `width` pixels wide; its picture is no matter of this. */
function drawCard(cell, row, decision, names, width) {
  const put = (selector, text) => {
    const target = cell.querySelector(selector);
    if (target.textContent !== text) target.textContent = text;
  };
  const state = decision?.conflict ? "conflict" : (decision?.action ?? "open");
  cell.dataset.state = state;
  cell.dataset.status = row.status;
  const [label, second] = cardTexts(row, decision, names);
  put(".label bdi", label);
  put(".second bdi", second);
  const confidence = namedConfidence(row, decision);
  put(".percent", percent(confidence));
  cell.querySelector(".meter").hidden = confidence === null;
  cell.querySelector(".meter i").style.width = `${100 * (confidence ?? 0)}%`;
  const path = printable(row.path);
  // its end says more than its start
  const room = Math.max(12, Math.floor((width - 20) / 6.6));
  put(".path bdi", path.length > room ? `…${path.slice(1 - room)}` : path);
  cell.querySelector(".path").title = path;
  put(".missing", MISSING[row.status] ?? "No picture");
  put(".badge", { accept: "✓", label: "✎", reject: "✕", conflict: "!" }[state] ?? "");
  put(".status", row.status === "doubtful" || row.status === "rejected" ? row.status : "");
  cell.querySelector(".drawn").hidden = row.shown_by !== "random";
  const spoken = [label, percent(confidence), second, STATUS_NAMES[row.status], decisionText(decision), path];
  cell.setAttribute("aria-label", spoken.filter(Boolean).join(", "));
}
