"use strict";
// What is drawn and written about one image. Everything is shown as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties, attributes (aria-..., data-..., role, colspan, scope) and children. */
function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (/^(aria|data)-|^(role|colspan|scope)$/.test(name)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

const isolated = (text) => make("bdi", { textContent: text });

function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const box = ([x, y, width, height], attributes) => shape("rect", { x, y, width, height, ...attributes });

/** The data: URI of the picture of an image; empty while the page is still being read, or where there is none. */
function pictureOf(image) {
  const stored = element(`picture-${image}`);
  return stored ? `data:image/jpeg;base64,${stored.textContent}` : "";
}

function detailsOf(image) {
  const stored = element(`details-${image}`);
  return stored ? JSON.parse(stored.textContent) : null;
}

function mark(right, who = "") {
  if (right === null) return "";
  const whose = who ? `${who} is ` : "";
  return make("span", { className: `mark ${right ? "is-right" : "is-wrong"}` }, `${right ? "✓" : "✗"} ${whose}${right ? "right" : "wrong"}`);
}

const use = () => shape("use", { href: "#pixels" });

function drawPanel(panel, { size: [width, height], unit, heat }, picture) {
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": panel.alt });
  const whole = { width, height, preserveAspectRatio: "none" };
  const scale = [];
  if (panel.kind === "image") svg.append(shape("image", { id: "pixels", href: picture, ...whole }));
  else if (panel.kind === "attention") {
    svg.append(shape("g", { class: "grey" }, use()), shape("image", { href: `data:image/png;base64,${heat}`, ...whole }));
    const colours = shape("svg", { class: "scale", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, shape("rect", { width: 100, height: 10, fill: "url(#heat)" }));
    scale.push(make("span", { className: "legend" }, "lowest ", colours, " highest of this image"));
  } else {
    svg.append(use(), shape("rect", { class: "shade", width, height }));
    if (panel.area) svg.append(box(panel.area, { class: "area" }));
    svg.append(...panel.faint.map((outline) => box(outline, { class: "faint" })));
    for (const [x, y, w, h, number, against] of panel.marked) {
      svg.append(box([x, y, w, h], { class: "halo" }), box([x, y, w, h], { class: `line n${number}${against ? " against" : ""}` }));
    }
    for (const [, , , , number, , x, y] of panel.marked) {
      const text = shape("text", { class: "tag-text", x: x + 8 * unit, y: y + 12.3 * unit, "font-size": 12 * unit, "text-anchor": "middle" }, String(number));
      svg.append(box([x, y, 16 * unit, 16 * unit], { class: `tag n${number}` }), text);
    }
  }
  return make("figure", { className: "panel" }, svg, make("figcaption", {}, make("b", {}, panel.title), " ", panel.note, ...scale));
}

/** The head of a table for those who hear it. */
const unseenHead = (...names) => make("thead", { className: "unseen" }, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))));

function drawRanking({ method, right, confidence, bars, beyond }) {
  const caption = make("caption", {}, make("b", {}, isolated(method)), " ", mark(right));
  if (confidence) caption.append(" ", make("span", { className: "confidence" }, `confidence ${confidence}`));
  const body = make("tbody");
  for (const { text, length, value, isTrue } of bars) {
    const name = make("th", { scope: "row" }, isolated(text));
    if (isTrue) name.append(" ", make("span", { className: "star", title: "the true label" }, "★", make("span", { className: "unseen" }, " the true label")));
    const bar = shape("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    bar.append(shape("rect", { class: "track", width: 100, height: 10 }), shape("rect", { class: isTrue ? "hit" : "fill", width: length, height: 10 }));
    body.append(make("tr", { className: isTrue ? "true" : "" }, name, make("td", { className: "wide" }, bar), make("td", { className: "number" }, value)));
  }
  if (beyond) body.append(make("tr", {}, make("td", { colspan: 3, className: "beyond" }, isolated(`★ ${beyond}`))));
  return make("table", { className: "ranking" }, caption, unseenHead("class", "bar", "score"), body);
}

function signedBar(length) {
  const svg = shape("svg", { class: "bar signed", viewBox: "-100 0 200 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(
    shape("rect", { class: "track", x: -100, width: 200, height: 10 }),
    shape("rect", { class: length < 0 ? "contra" : "pro", x: Math.min(0, length), width: Math.abs(length), height: 10 }),
    shape("rect", { class: "zero", x: -0.6, width: 1.2, height: 10 }),
  );
  return svg;
}

/** The sentences of one class: how much each speaks for it, from the left. */
function drawSentences([label, bars], isWinner, why) {
  const says = isWinner ? `${why.method} predicts it` : why.otherIsTrue ? "the true class" : "the second";
  const body = make("tbody", {}, ...bars.map(({ text, length, value }) => make("tr", {}, make("th", { scope: "row", className: "sentence" }, isolated(text)), make("td", { className: "wide" }, signedBar(length)), make("td", { className: "number" }, value))));
  return make("table", { className: "parts" }, make("caption", {}, "Sentences about ", make("em", {}, isolated(label)), `, ${says}`), unseenHead("sentence", "bar", "share"), body);
}

function drawViewRow({ text, length, value, number, outline, sides }) {
  const seen = outline && outline[2] && outline[3];
  const peek = seen ? shape("svg", { class: "peek", viewBox: outline.join(" "), preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true" }, use()) : make("span");
  const chip = number ? make("span", { className: `chip n${number}` }, String(number)) : make("span");
  const name = make("th", { scope: "row", className: "view-name" }, make("div", {}, peek, chip, make("span", {}, text)));
  const figures = [...sides, value].map((figures) => make("td", { className: "number" }, figures));
  return make("tr", {}, name, ...figures, make("td", { className: "wide" }, signedBar(length)));
}

function drawViews(why) {
  const heads = ["view", why.winner, why.other, "difference", ""].map((text) => make("th", { scope: "col" }, isolated(text)));
  const caption = make("caption", {}, "What each view adds to the scores of ", make("em", {}, isolated(why.winner)), " and ", make("em", {}, isolated(why.other)));
  return make("table", { className: "parts views" }, caption, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...why.views.map(drawViewRow)));
}

function rest(pair, singular, plural) {
  if (!pair) return [];
  const [number, value] = pair;
  return [make("p", { className: "rest" }, make("span", {}, `${count(number)} other ${number === 1 ? singular : plural}`), make("span", { className: "number" }, value))];
}

const sum = (what, value) => make("p", { className: "rest sum" }, make("span", {}, what), make("span", { className: "number" }, value));

/** Why the winner is before the class that it is compared with, which is the true one where the winner is wrong. */
function drawReasons(why) {
  const [winner, other] = [why.winner, why.other].map((text) => make("em", {}, isolated(text)));
  const title = make("h4", {}, "Why ", make("b", {}, isolated(why.method)), " puts ", winner, " before ", other, why.otherIsTrue ? ", the true class" : "");
  const text = make("p", { className: "quiet" }, `The scores differ by ${why.margin}. Every sentence and every view carries a share of that. Bars to the right (blue) speak for `, isolated(why.winner), ", bars to the left (orange) for ", isolated(why.other), ".");
  const sides = make("div", { className: "sides" }, ...why.groups.map((group, place) => drawSentences(group, place === 0 && group[0] === why.winner, why)));
  const sentences = make("div", {}, sides, ...rest(why.otherSentences, "sentence", "sentences"), sum("all sentences together", why.margin));
  const out = make("section", { className: "why" }, title, text, sentences);
  if (why.views.length) out.append(make("div", {}, drawViews(why), ...rest(why.otherViews, "view", "views"), sum("all views together", why.margin)));
  return out;
}

/** What each method says of an image that has no picture here. */
function drawOpinions(table, image) {
  const heads = ["method", "predicts", ...(table.hasTruth ? ["", "place of the true class"] : []), ...(table.hasConfidence ? ["confidence"] : []), ...(table.hasMargin ? ["margin", "second"] : [])];
  const row = ({ name, top, second, ranks, margin, confidence }) => {
    const cells = [make("td", {}, isolated(table.classes[top[image]]))];
    if (table.hasTruth) cells.push(make("td", {}, mark(ranks[image] === 1)), make("td", { className: "number" }, count(ranks[image])));
    const number = (value, digits) => make("td", { className: "number" }, value === undefined || value === null ? "" : figure(value, digits));
    if (table.hasConfidence) cells.push(number(confidence[image], 4));
    if (table.hasMargin) cells.push(number(margin[image]), make("td", {}, isolated(second.length ? table.classes[second[image]] : "")));
    return make("tr", {}, make("th", { scope: "row" }, isolated(name)), ...cells);
  };
  return make("div", { className: "scroll" }, make("table", { className: "opinions" }, make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, ...table.methods.map(row))));
}

/** Everything that is known of an image. */
function drawImage(table, image) {
  const details = detailsOf(image);
  const main = table.methods[table.main];
  const right = table.hasTruth ? main.ranks[image] === 1 : null;
  const heading = make("h3", { id: "image-title", tabIndex: -1 }, isolated(table.hasTruth ? table.classes[table.truth[image]] : table.classes[main.top[image]]), " ", mark(right, main.name));
  heading.append(make("span", { className: "file" }, isolated(table.names[image])));
  if (!details) {
    const waits = table.withPicture[image] && document.readyState === "loading";
    return [heading, make("p", { className: "quiet" }, waits ? "The page is still being read." : "This image has no picture on this page, only a row."), drawOpinions(table, image)];
  }
  const picture = pictureOf(image);
  const panels = make("div", { className: "panels" }, ...details.panels.map((panel) => drawPanel(panel, details, picture)));
  const rankings = make("div", { className: "rankings" }, ...details.rankings.map(drawRanking));
  return [heading, panels, rankings, ...(details.why ? [drawReasons(details.why)] : [])];
}
