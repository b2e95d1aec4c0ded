"use strict";
// How a sentence, a class and their scores are shown.

const element = (id) => document.getElementById(id);
const PRINTED = 5000; // sentences at most
const STATES = { open: "Undecided", accept: "Accepted", edit: "Edited", reject: "Rejected", add: "Added" };
const CHOICES = { accept: ["Accept", "a"], edit: ["Edit", "e"], reject: ["Reject", "r"] };

/** An element with properties, attributes (aria-..., data-..., role) and children. */
function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (/^(aria|data)-|^role$/.test(name)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

const isolated = (text) => make("bdi", { textContent: text });

/** A number with its sign, which is a minus and no hyphen; without `digits` behind the point with three that count. */
function signed(value, digits = null) {
  const size = Math.abs(value);
  const text = size.toFixed(digits ?? Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(size || 1)))));
  return Number(text) === 0 ? text : `${value < 0 ? "−" : "+"}${text}`;
}

/** What an interval of points says: "good" above 0, "bad" below, else "". */
const judged = ({ low, high }) => (low > 0 ? "good" : high < 0 ? "bad" : "");

const pointsText = ({ points, low, high }) => `${signed(points, 1)} points [${signed(low, 1)}, ${signed(high, 1)}]`;

/** What a sentence wins and costs, in pieces: [text, title, "good" or "bad" or ""]. */
function scoreParts(score, classes) {
  const parts = [];
  if (score.gain) {
    const { won, lost, images } = score.gain;
    parts.push([pointsText(score.gain), `Top-1 with it against without it, 95 % interval, on ${counted(images, "image", "images")}`, judged(score.gain)]);
    parts.push([`${number(won)} won, ${number(lost)} lost`, "Images that are right only with it, and only without it", ""]);
  }
  if (score.only) parts.push(["only sentence of its class", "There is nothing to compare it with", ""]);
  if (score.margin !== null) parts.push([`margin ${signed(score.margin)}`, "By how much it raises its own class over the best other one, on the images of its class", ""]);
  parts.push([`usage ${(100 * score.usage).toFixed(score.usage < 0.01 ? 2 : 1)} %`, "Its share of the weight of all sentences", ""]);
  if (!score.gain && !score.only) parts.push([`changes ${counted(score.changed, "label", "labels")}`, "Images that get another label without it", ""]);
  if (score.pulled.length) {
    const names = score.pulled.slice(0, 4).map(([place, images]) => `${number(images)} ${classes[place]?.shown ?? "of another class"}`);
    parts.push([`pulls in ${names.join(", ")}${score.pulled.length > 4 ? ", …" : ""}`, "Images of other classes that get its class because of it", "bad"]);
  }
  return parts;
}

function drawParts(parts) {
  return make("p", { className: "score" }, ...parts.map(([text, title, kind]) => make("span", { title, className: kind }, isolated(text))));
}

/** The example photos of a sentence, each with what it is and what it gets. */
function drawPhotos(places, examples, classes) {
  const name = (place) => classes[place]?.shown ?? "another class";
  const photos = places.map((place) => examples[place]).filter(Boolean);
  return make("ul", { className: "photos", "aria-label": "Example images" }, ...photos.map(({ path, truth, label, image }) => {
    const says = truth === null ? `gets ${name(label)}` : truth === label ? `${name(truth)}, right` : `${name(truth)}, gets ${name(label)}`;
    const kind = truth === null ? "" : truth === label ? "good" : "bad";
    return make("li", { className: kind, title: `${path}: ${says}` }, make("img", { src: `data:image/jpeg;base64,${image}`, alt: `${path}: ${says}`, decoding: "async" }));
  }));
}

/** The heading of a class. */
function drawClass(row, group, classes) {
  const heading = row ?? make("header", { className: "class" });
  const { open, reject, total } = group.counts;
  const counts = `${number(total - open)} of ${number(total)} decided${reject ? `, ${number(reject)} rejected` : ""}`;
  const buttons = make("div", { className: "choices" });
  if (open) buttons.append(make("button", { type: "button", "data-do": "accept-class", className: "good", title: "Accept what is undecided in this class (Shift+A)" }, `Accept ${open === total ? "all" : "the other"} ${number(open)}`));
  buttons.append(make("button", { type: "button", "data-do": "add", title: "Add a sentence (+)" }, "Add a sentence"));
  const title = make("h2", {}, isolated(group.shown), make("small", {}, isolated(group.id)));
  heading.replaceChildren(make("div", {}, title, ...(group.note ? [make("p", { className: "note" }, isolated(group.note))] : [])), make("p", { className: "counts" }, counts), buttons);
  if (group.score) heading.append(drawParts(classScoreParts(group.score, classes)));
  heading.dataset.class = group.index;
  return heading;
}

function classScoreParts({ images, right, over_name: gain, confused }, classes) {
  const parts = [[right === null ? counted(images, "image", "images") : `${number(right)} of ${counted(images, "image", "images")} right`, "", ""]];
  if (gain) parts.push([`${pointsText(gain)} over the name alone`, "Its sentences against “a photo of a …”, 95 % interval", judged(gain)]);
  if (confused.length) {
    const names = confused.slice(0, 4).map(([place, count]) => `${number(count)} ${classes[place]?.shown ?? "another class"}`);
    parts.push([`${right === null ? "second best" : "taken for"}: ${names.join(", ")}${confused.length > 4 ? ", …" : ""}`, "", ""]);
  }
  return parts;
}

/**
 * A sentence with what is decided of it, its score and its buttons.
 * view: {review, scores, editing, flat}; `editing` is "text" or "reason" where a box is open.
 */
function drawSentence(row, sentence, view) {
  const { review, scores, editing, flat } = view;
  const article = row ?? make("article");
  const decision = review.decision(sentence);
  const state = review.state(sentence);
  const shown = sentence.added ? printable(review.text(sentence)) : sentence.shown;
  article.dataset.id = sentence.id;
  article.dataset.state = state;
  const words = make("div", { className: "words" });
  if (flat) words.append(make("p", { className: "of" }, isolated(sentence.group.shown)));
  const tags = [...(sentence.kind === "phrase" ? ["phrase"] : []), ...(state === "add" ? ["added"] : [])].map((text) => make("small", { textContent: text }));
  words.append(make("p", { className: "text" }, isolated(shown), ...tags));
  if (state === "edit") words.append(make("p", { className: "new" }, isolated(printable(decision.text))));
  if (decision?.reason && editing !== "reason") words.append(make("p", { className: "reason" }, "Reason: ", isolated(printable(decision.reason))));
  if (sentence.score) words.append(drawParts(scoreParts(sentence.score, review.classes)));
  if (sentence.score?.examples.length) words.append(drawPhotos(sentence.score.examples, scores.examples, review.classes));
  article.replaceChildren(words, drawChoices(sentence, state, decision, editing));
  const spoken = [flat ? sentence.group.shown : "", shown, STATES[state], state === "edit" ? printable(decision.text) : "", decision?.reason ? `reason: ${printable(decision.reason)}` : ""];
  if (sentence.score) spoken.push(scoreParts(sentence.score, review.classes)[0][0]);
  article.setAttribute("aria-label", spoken.filter(Boolean).join(". "));
  return article;
}

function drawChoices(sentence, state, decision, editing) {
  const box = make("div", { className: "choices", role: "group", "aria-label": "Decision" });
  for (const [choice, [name, key]] of Object.entries(CHOICES)) {
    if (sentence.added && choice === "accept") continue;
    const label = sentence.added && choice === "reject" ? "Remove" : name;
    box.append(make("button", { type: "button", "data-do": choice, title: `${label} (${key})`, "aria-pressed": String(state === choice) }, label));
  }
  if (["edit", "reject"].includes(state) && editing !== "reason") {
    box.append(make("button", { type: "button", "data-do": "reason", className: "quiet", title: "Say why (w)" }, decision.reason ? "Reason…" : "Why?"));
  }
  return box;
}

/** A class beside the list: its name, how much is rejected and undecided, and a bar of what is decided. */
function drawClassButton(row, group, current) {
  const button = row ?? make("button", { type: "button", className: "entry" }, make("bdi"), make("small"), make("i", { "aria-hidden": "true" }));
  const { open, accept, edit, reject, add, total } = group.counts;
  const [name, amount, bar] = button.children;
  name.textContent = group.shown;
  amount.textContent = `${reject ? `${number(reject)}✕ ` : ""}${open ? number(open) : total ? "✓" : "–"}`;
  const share = (count) => `${total ? (100 * count) / total : 0}%`;
  bar.style.setProperty("--accepted", share(accept));
  bar.style.setProperty("--edited", share(accept + edit + add));
  bar.style.setProperty("--rejected", share(accept + edit + add + reject));
  button.dataset.class = group.index;
  button.tabIndex = current ? 0 : -1;
  button.setAttribute("aria-current", String(current));
  button.title = `${group.shown}: ${number(open)} undecided, ${number(total - open)} decided, ${number(reject)} rejected`;
  button.setAttribute("aria-label", button.title);
  return button;
}

/** What is listed, for paper, which the screen has only in part. */
function drawPrint(sentences, review) {
  const lines = sentences.slice(0, PRINTED).flatMap((sentence, place) => {
    const decision = review.decision(sentence);
    const state = review.state(sentence);
    const line = make("p", {}, make("b", {}, STATES[state]), " ", isolated(sentence.added ? printable(decision.text) : sentence.shown));
    if (state === "edit") line.append(" → ", isolated(printable(decision.text)));
    if (decision?.reason) line.append(" (", isolated(printable(decision.reason)), ")");
    return sentences[place - 1]?.group === sentence.group ? [line] : [make("h2", {}, isolated(sentence.group.shown)), line];
  });
  const rest = sentences.length - PRINTED;
  return [make("h1", {}, document.title), ...lines, ...(rest > 0 ? [make("p", {}, `${number(rest)} more are not printed: search or filter for them.`)] : [])];
}
