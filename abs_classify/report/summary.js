"use strict";
// The tables of the summary that lead to images: which method is right where another is wrong, and what is taken for what.

const MATRIX = 12; // classes of the confusion matrix at most
const LISTED = 20;

/** A table of numbers; those above 0 are buttons. label(row, column) says what a number counts. */
function drawMatrix(table, names, columns, values, { corner, label, press, quiet = () => false }) {
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col", className: "quiet" }, corner), ...columns.map((name) => make("th", { scope: "col" }, isolated(name)))));
  const most = Math.max(1, ...values.flat().filter((_, place) => !quiet(Math.floor(place / columns.length), place % columns.length)));
  const cell = (value, row, column) => {
    if (!value) return make("td", { className: "number quiet" }, row === column && quiet(row, column) ? "" : "·");
    const button = make("button", { type: "button", title: label(row, column), "aria-label": `${count(value)}: ${label(row, column)}` }, count(value));
    button.addEventListener("click", () => press(row, column));
    const shade = quiet(row, column) ? "diagonal" : `shade-${Math.ceil((4 * value) / most)}`;
    return make("td", { className: `number ${shade}` }, button);
  };
  const rows = names.map((name, row) => make("tr", {}, make("th", { scope: "row" }, isolated(name)), ...values[row].map((value, column) => cell(value, row, column))));
  table.replaceChildren(head, make("tbody", {}, ...rows));
}

class Summary {
  #table;
  #show;
  #listed = LISTED;

  /** show(filters): leads to the images. */
  constructor(table, show) {
    this.#table = table;
    this.#show = show;
    if (!table.hasTruth) return;
    this.#drawPairs();
    const choice = element("confusion-method");
    choice.append(...table.methods.map(({ name }, place) => new Option(name, place)));
    choice.value = table.main;
    choice.addEventListener("change", () => this.#drawConfusions());
    element("more-confusions").addEventListener("click", () => {
      this.#listed *= 4;
      this.#drawConfusions();
    });
    this.#drawConfusions();
    element("confusions").hidden = false;
  }

  #drawPairs() {
    const { methods } = this.#table;
    if (methods.length < 2) return;
    const names = methods.map(({ name }) => name);
    drawMatrix(element("pair-table"), names, names, this.#table.pairs(), {
      corner: "right \\ wrong", quiet: (row, column) => row === column,
      label: (right, wrong) => `${names[right]} right, ${names[wrong]} wrong`,
      press: (right, wrong) => this.#show({ right, wrong }),
    });
    element("pairs").hidden = false;
  }

  #drawConfusions() {
    const { classes } = this.#table;
    const method = Number(element("confusion-method").value);
    const pairs = this.#table.confusions(method);
    const chosen = this.#classesOf(pairs);
    const wrong = pairs.reduce((total, [, , images]) => total + images, 0);
    const all = chosen.length === classes.length;
    element("confusion-note").textContent = wrong
      ? `${counted(wrong, "image is", "images are")} wrong. Rows are true classes, columns what is predicted${all ? "" : `; of ${count(classes.length)} classes the ${count(chosen.length)} that are confused most`}. A number shows the images.`
      : "Every image is right.";
    element("confusion-box").hidden = !wrong;
    const names = chosen.map((position) => classes[position]);
    drawMatrix(element("confusion-table"), names, names, this.#counts(method, chosen), {
      corner: "true \\ predicted", quiet: (row, column) => row === column,
      label: (row, column) => `true ${names[row]}, predicted ${names[column]}`,
      press: (row, column) => this.#show({ method, truth: chosen[row], label: chosen[column] }),
    });
    element("confusion-list").replaceChildren(...pairs.slice(0, this.#listed).map(([truth, label, images]) => {
      const button = make("button", { type: "button" }, isolated(classes[truth]), " taken for ", isolated(classes[label]), make("b", {}, ` ${count(images)}`));
      button.addEventListener("click", () => this.#show({ method, truth, label }));
      return make("li", {}, button);
    }));
    element("more-confusions").hidden = pairs.length <= this.#listed;
  }

  /** The classes of the matrix: all of few, else those of the most frequent pairs, in the order of the classes. */
  #classesOf(pairs) {
    const { classes } = this.#table;
    if (classes.length <= MATRIX) return classes.map((_, position) => position);
    const chosen = new Set();
    for (const [truth, label] of pairs) {
      const added = [truth, label].filter((position) => !chosen.has(position));
      if (chosen.size + added.length <= MATRIX) for (const position of added) chosen.add(position);
    }
    return [...chosen].sort((one, other) => one - other);
  }

  #counts(method, chosen) {
    const { top } = this.#table.methods[method];
    const places = new Map(chosen.map((position, place) => [position, place]));
    const counts = chosen.map(() => chosen.map(() => 0));
    this.#table.truth.forEach((truth, image) => {
      const [row, column] = [places.get(truth), places.get(top[image])];
      if (row !== undefined && column !== undefined) counts[row][column] += 1;
    });
    return counts;
  }
}
