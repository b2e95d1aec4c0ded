"use strict";
// The scores of a bundle: classes at the side, sentences page by page. Everything is shown as text, never as markup.

const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const PAGE = 50;
const PRINTED = 500;
const CLASSES = 200;
const STRIP = 4;

const count = (value) => value.toLocaleString("en");
const counted = (value, singular, plural) => `${count(value)} ${value === 1 ? singular : plural}`;
const points = (value, digits = 2) => `${value > 0 ? "+" : value < 0 ? "\u2212" : ""}${Math.abs(value).toFixed(digits)}`;
const share = (value) => `${(100 * value).toFixed(value && value < 0.001 ? 3 : 2)} %`;
const name = (position) => data.names[position];
const net = (sentence) => (sentence.gain ? sentence.gain.won - sentence.gain.lost : 0);
const margin = (sentence) => sentence.margin ?? 0;
const pulled = (sentence) => sentence.pulled.reduce((sum, [, images]) => sum + images, 0);

/** An element with a class, a text and children. */
function make(tag, className = "", text = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  made.append(...children);
  return made;
}

function gainOf(value) {
  if (!value) return null;
  const [won, lost, images, low, high] = value;
  return { won, lost, images, low, high, points: images ? (100 * (won - lost)) / images : 0 };
}

const classes = data.classes.map(([id, images, right, over, confused], position) => ({
  position, id, images, right, over: gainOf(over), confused, key: folded(`${name(position)}\n${id}`),
}));
const sentences = data.sentences.map(([of, text, isOnly, gain, raised, changed, usage, pulledIn, examples], position) => ({
  position, of, text, isOnly, gain: gainOf(gain), margin: raised, changed, usage, pulled: pulledIn, examples, key: folded(text), open: false,
}));
const reach = Math.max(0.01, sentences.reduce((most, { gain }) => (gain ? Math.max(most, -gain.low, gain.high) : most), 0));
const classReach = Math.max(0.01, classes.reduce((most, { over }) => (over ? Math.max(most, -over.low, over.high) : most), 0));

// --- orders and filters ----------------------------------------------------------------------------------------------

const ORDERS = {
  ...(data.truth && {
    costs: ["Cost most", (a, b) => net(a) - net(b) || margin(a) - margin(b)],
    wins: ["Win most", (a, b) => net(b) - net(a) || margin(b) - margin(a)],
    low: ["Lowest margin", (a, b) => margin(a) - margin(b)],
    high: ["Highest margin", (a, b) => margin(b) - margin(a)],
    pulls: ["Pull in most", (a, b) => pulled(b) - pulled(a)],
  }),
  changed: ["Change most labels", (a, b) => b.changed - a.changed],
  used: ["Used most", (a, b) => b.usage - a.usage],
  unused: ["Used least", (a, b) => a.usage - b.usage],
  bundle: ["Order of the bundle", () => 0],
};
const FILTERS = {
  all: ["All", () => true],
  ...(data.truth && {
    costs: ["Costs images", (sentence) => net(sentence) < 0],
    wins: ["Wins images", (sentence) => net(sentence) > 0],
    pulls: ["Pulls in others", (sentence) => sentence.pulled.length > 0],
  }),
  idle: ["Changes no label", (sentence) => !sentence.isOnly && !sentence.changed],
  only: ["The only one of its class", (sentence) => sentence.isOnly],
};
const byPoints = (sign) => (a, b) => sign * ((a.over?.points ?? 0) - (b.over?.points ?? 0));
const wrong = (entry) => (data.truth ? entry.images - (entry.right ?? 0) : entry.confused.reduce((sum, [, images]) => sum + images, 0));
const CLASS_ORDERS = {
  ...(data.truth && { below: ["Costs against name", byPoints(1)], above: ["Wins against name", byPoints(-1)] }),
  confused: [data.truth ? "Most images wrong" : "Most often doubtful", (a, b) => wrong(b) - wrong(a)],
  name: ["Name", (a, b) => (name(a.position) < name(b.position) ? -1 : 1)],
  bundle: ["Order of the bundle", () => 0],
};

const state = { order: Object.keys(ORDERS)[0], show: "all", search: "", class: null, page: 0, row: 0, classOrder: Object.keys(CLASS_ORDERS)[0], narrow: "", classesShown: CLASSES };
let shown = [];

function select() {
  const search = folded(state.search);
  const keep = FILTERS[state.show][1];
  shown = sentences.filter((sentence) => (state.class === null || sentence.of === state.class) && keep(sentence) && (!search || sentence.key.includes(search)));
  const order = ORDERS[state.order][1];
  shown.sort((a, b) => order(a, b) || a.position - b.position);
}

// --- drawing ---------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function interval(gain, most) {
  const x = (value) => (100 * Math.max(-1, Math.min(1, value / most))).toFixed(2);
  const svg = shape("svg", { class: "interval", viewBox: "-100 -7 200 14", preserveAspectRatio: "none", "aria-hidden": "true" });
  const line = (className, from, to, y = 0) => shape("line", { class: className, x1: from, x2: to, y1: -y, y2: y, "vector-effect": "non-scaling-stroke" });
  svg.append(line("track", -100, 100), line("range", x(gain.low), x(gain.high)), line("zero", 0, 0, 7), shape("ellipse", { cx: x(gain.points), rx: 2.2, ry: 3.6, fill: "currentColor" }));
  return svg;
}

function gainBox(gain, most) {
  const tone = gain.won > gain.lost ? "good" : gain.won < gain.lost ? "bad" : "";
  const box = make("div", `gain figures ${tone}`);
  const range = `[${points(gain.low)}, ${points(gain.high)}]`;
  box.append(
    make("span", "points", `${points(gain.points)} points`), interval(gain, most),
    make("small", "", `${range} \u00b7 won ${count(gain.won)}, lost ${count(gain.lost)}`),
  );
  return box;
}

function chip(position, images) {
  const button = make("button", "", `${name(position)}${images === undefined ? "" : ` ${count(images)}`}`);
  button.type = "button";
  button.disabled = position >= classes.length;
  button.addEventListener("click", () => choose(position));
  return button;
}

const chips = (pairs) => make("div", "chips", "", ...pairs.map(([position, images]) => chip(position, images)));

function outcome([, truth, label]) {
  if (truth === null) return `labelled ${name(label)}`;
  return truth === label ? `right: ${name(label)}` : `${name(truth)}, labelled ${name(label)}`;
}

function picture(example) {
  const [path, truth, label, thumbnail] = example;
  const image = make("img", truth === null ? "" : truth === label ? "right" : "wrong");
  image.src = `data:image/jpeg;base64,${thumbnail}`;
  image.alt = `${path}: ${outcome(example)}`;
  image.title = image.alt;
  image.loading = "lazy";
  return image;
}

/** The end of a path, which tells images apart. */
function shortened(path) {
  const parts = path.split("/");
  return parts.length > 2 ? `\u2026/${parts.slice(-2).join("/")}` : path;
}

function photo(example) {
  const figure = make("figure");
  figure.append(example[3] ? picture(example) : make("div", "blank", "cannot be drawn"));
  figure.append(make("figcaption", "", "", make("bdi", "", outcome(example)), make("br"), make("bdi", "quiet", shortened(example[0]))));
  figure.title = example[0];
  return figure;
}

function details(sentence) {
  const box = make("div", "details");
  if (sentence.pulled.length) box.append(make("div", "", "Pulls in images of: ", chips(sentence.pulled)));
  const photos = sentence.examples.map((number) => photo(data.examples[number]));
  box.append(photos.length ? make("div", "photos", "", ...photos) : make("p", "quiet", "No photos were kept for this sentence."));
  return box;
}

function use(label, value) {
  return make("div", "", "", make("span", "", label), make("b", "", value));
}

const hasMore = (sentence) => sentence.examples.length > 0 || sentence.pulled.length > 0;

/** The first photos, unless all are shown below, and the button that shows or hides the rest. */
function strip(sentence, place) {
  const drawn = sentence.open ? [] : sentence.examples.filter((number) => data.examples[number][3]).slice(0, STRIP);
  const what = sentence.examples.length ? counted(sentence.examples.length, "photo", "photos") : "classes";
  const toggle = make("button", "open-close", `${sentence.open ? "Hide" : "Show"} ${what}`);
  toggle.type = "button";
  toggle.setAttribute("aria-expanded", sentence.open);
  toggle.addEventListener("click", () => open(place));
  return make("div", "strip", "", ...drawn.map((number) => picture(data.examples[number])), toggle);
}

function row(sentence, place) {
  const item = make("li", "sentence");
  item.tabIndex = place === state.row ? 0 : -1;
  item.setAttribute("aria-setsize", shown.length);
  item.setAttribute("aria-posinset", state.page * PAGE + place + 1);
  const of = chip(sentence.of);
  of.className = "of";
  const words = make("div", "words", "", of, make("p", "text", "", make("bdi", "", sentence.text)));
  const gain = sentence.gain ? gainBox(sentence.gain, reach) : make("p", "quiet", sentence.isOnly ? "The only sentence of its class: there is nothing without it." : "");
  const uses = make("div", "uses", "", use("usage", share(sentence.usage)));
  if (sentence.margin !== null) uses.append(use("margin", points(sentence.margin, 3)));
  if (!sentence.isOnly) uses.append(use("labels changed", count(sentence.changed)));
  if (sentence.pulled.length) uses.append(use("pulled in", count(pulled(sentence))));
  item.append(words, gain, uses);
  if (hasMore(sentence)) {
    words.append(strip(sentence, place));
    if (sentence.open) item.append(details(sentence));
  }
  item.addEventListener("focusin", () => mark(place));
  return item;
}

function drawList(rows = shown.slice(state.page * PAGE, (state.page + 1) * PAGE)) {
  element("list").replaceChildren(...rows.map(row));
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  const first = state.page * PAGE;
  element("count").textContent = shown.length ? `${count(first + 1)} to ${count(first + rows.length)} of ${counted(shown.length, "sentence", "sentences")}` : "No sentences";
  element("none").hidden = shown.length > 0;
  element("pages").hidden = pages < 2;
  element("page").textContent = `Page ${count(state.page + 1)} of ${count(pages)}`;
  element("previous").disabled = state.page === 0;
  element("next").disabled = state.page + 1 >= pages;
}

function drawClass() {
  const box = element("class");
  box.hidden = state.class === null;
  if (box.hidden) return;
  const entry = classes[state.class];
  const back = make("button", "", "All sentences");
  back.type = "button";
  back.addEventListener("click", () => choose(null));
  const facts = make("dl");
  const fact = (term, ...value) => facts.append(make("div", "", "", make("dt", "", term), make("dd", "figures", "", ...value)));
  fact(data.truth ? "Images" : "Images with this label", count(entry.images));
  if (entry.right !== null) fact("Right", entry.images ? `${count(entry.right)} (${((100 * entry.right) / entry.images).toFixed(1)} %)` : "0");
  if (entry.over) fact("Its sentences against its name alone", gainBox(entry.over, classReach));
  if (entry.confused.length) fact(data.truth ? "Its wrong images are labelled" : "Comes second", chips(entry.confused));
  box.replaceChildren(make("header", "", "", make("h2", "", "", make("bdi", "", name(entry.position)), " ", make("small", "quiet", entry.id === name(entry.position) ? "" : entry.id)), back), facts);
}

function classButton(entry) {
  const button = make("button", "", "", make("bdi", "", name(entry.position)));
  button.type = "button";
  button.setAttribute("aria-current", state.class === entry.position);
  const tone = entry.over && entry.over.won !== entry.over.lost ? (entry.over.won > entry.over.lost ? "good" : "bad") : "quiet";
  button.append(make("span", `figures ${tone}`, entry.over ? points(entry.over.points) : count(entry.images)));
  button.append(make("small", "", entry.right === null ? counted(entry.images, "image", "images") : `${count(entry.right)} of ${counted(entry.images, "image", "images")} right`));
  button.addEventListener("click", () => choose(state.class === entry.position ? null : entry.position));
  return make("li", "", "", button);
}

function drawClasses() {
  const narrow = folded(state.narrow);
  const kept = classes.filter((entry) => !narrow || entry.key.includes(narrow));
  const order = CLASS_ORDERS[state.classOrder][1];
  kept.sort((a, b) => order(a, b) || a.position - b.position);
  element("classes").replaceChildren(...kept.slice(0, state.classesShown).map(classButton));
  element("more").hidden = kept.length <= state.classesShown;
  element("unfold").textContent = state.class === null ? `Classes (${count(classes.length)})` : `Classes: ${name(state.class)}`;
}

// --- what the reader does --------------------------------------------------------------------------------------------

function refresh() {
  state.page = 0;
  state.row = 0;
  select();
  drawList();
}

function choose(position) {
  state.class = position;
  element("unfold").setAttribute("aria-expanded", false);
  drawClass();
  drawClasses();
  refresh();
  if (element("top").getBoundingClientRect().bottom < 0) element("layout").scrollIntoView();
}

function mark(place) {
  const rows = element("list").children;
  if (rows[state.row]) rows[state.row].tabIndex = -1;
  state.row = place;
  if (rows[place]) rows[place].tabIndex = 0;
}

function focus(place) {
  const rows = element("list").children;
  if (!rows.length) return;
  mark(Math.max(0, Math.min(rows.length - 1, place)));
  rows[state.row].focus();
  rows[state.row].scrollIntoView({ block: "nearest" });
}

function open(place) {
  const sentence = shown[state.page * PAGE + place];
  if (!sentence || !hasMore(sentence)) return;
  sentence.open = !sentence.open;
  element("list").children[place].replaceWith(row(sentence, place));
  focus(place);
}

function turn(step, place = 0) {
  const pages = Math.ceil(shown.length / PAGE);
  if (state.page + step < 0 || state.page + step >= pages) return;
  state.page += step;
  state.row = 0;
  drawList();
  focus(place < 0 ? PAGE : place);
  if (place === 0) element("count").scrollIntoView({ block: "nearest" });
}

function walk(step) {
  const isIn = element("list").contains(document.activeElement);
  const rows = element("list").children.length;
  const place = isIn ? state.row + step : state.row;
  if (place >= rows) turn(1);
  else if (place < 0) turn(-1, -1);
  else focus(place);
}

function clear() {
  Object.assign(state, { show: "all", search: "" });
  element("search").value = "";
  element("show").value = "all";
  choose(null);
}

function find(id) {
  element("unfold").setAttribute("aria-expanded", true);
  element(id).focus();
  element(id).select();
}

const KEYS = {
  j: () => walk(1), ArrowDown: () => walk(1), k: () => walk(-1), ArrowUp: () => walk(-1),
  ArrowRight: () => turn(1), ArrowLeft: () => turn(-1),
  "/": () => find("search"), c: () => find("narrow"), "?": () => element("keys").showModal(),
  o: () => classes[shown[state.page * PAGE + state.row]?.of] && choose(shown[state.page * PAGE + state.row].of),
  Enter: () => open(state.row), Escape: clear,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || element("keys").open) return;
  const target = event.target;
  if (target.matches("input, select")) {
    if (event.key === "Enter" && target.id === "narrow") element("classes").querySelector("button")?.click();
    if (event.key === "Enter" && target.type === "search") focus(0);
    if (event.key !== "Escape") return;
    event.preventDefault();
    if (target.matches("input")) {
      target.value = "";
      target.dispatchEvent(new Event("input"));
    }
    target.blur();
    return;
  }
  if (event.key === "Enter" && !target.matches(".sentence")) return;
  const act = Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : null;
  if (!act) return;
  event.preventDefault();
  act();
});

function fill(id, options, chosen, changed) {
  element(id).append(...Object.entries(options).map(([value, [text]]) => Object.assign(make("option", "", text), { value })));
  element(id).value = chosen;
  element(id).addEventListener("change", () => changed(element(id).value));
}

fill("order", ORDERS, state.order, (value) => { state.order = value; refresh(); });
fill("show", FILTERS, state.show, (value) => { state.show = value; refresh(); });
fill("class-order", CLASS_ORDERS, state.classOrder, (value) => { state.classOrder = value; drawClasses(); });
element("search").addEventListener("input", () => { state.search = element("search").value.trim(); refresh(); });
element("narrow").addEventListener("input", () => { state.narrow = element("narrow").value.trim(); state.classesShown = CLASSES; drawClasses(); });
element("more").addEventListener("click", () => { state.classesShown += CLASSES; drawClasses(); });
element("previous").addEventListener("click", () => turn(-1));
element("next").addEventListener("click", () => turn(1));
element("clear").addEventListener("click", clear);
element("help").addEventListener("click", () => element("keys").showModal());
element("unfold").addEventListener("click", () => element("unfold").setAttribute("aria-expanded", element("unfold").getAttribute("aria-expanded") === "false"));
// paper has no pages to turn
addEventListener("beforeprint", () => { const page = state.page; state.page = 0; drawList(shown.slice(0, PRINTED)); state.page = page; });
addEventListener("afterprint", () => drawList());

function start() {
  document.title = `Scores of ${data.bundle.split("#")[0]}`;
  element("title").textContent = document.title;
  element("lead").textContent = `on ${data.source}`;
  const fact = (term, value, more = "") => element("facts").append(make("div", "", "", make("dt", "", term), make("dd", "", value, ...(more ? [" ", make("small", "", more)] : []))));
  fact("Images", count(data.images));
  if (data.right !== null) fact("Right", count(data.right), data.images ? `${((100 * data.right) / data.images).toFixed(1)} %` : "");
  fact("Classes", count(classes.length));
  fact("Sentences", count(sentences.length));
  if (data.truth) {
    fact("Win images", count(sentences.filter((sentence) => net(sentence) > 0).length));
    fact("Cost images", count(sentences.filter((sentence) => net(sentence) < 0).length));
    fact("Pull in others", count(sentences.filter(FILTERS.pulls[1]).length));
  }
  fact("Method", data.method.split("#")[0]);
  fact("Model", data.model.split("#")[0]);
  fact("Made", data.created);
  element("remarks").querySelector("ul").append(...[`${data.bundle}; method ${data.method}; model ${data.model}`, ...data.remarks].map((text) => make("li", "", text)));
  drawClasses();
  refresh();
}

start();
