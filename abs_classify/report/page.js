"use strict";
// The page: its parts, by the fragment of its address, and what keys and fields do.

const PRINTED = 400; // images of a printed list at most
const THUMBNAIL = 150;
const QUICK = 5000; // images that are searched at every key

class ReportViewer {
  #table = new ImageRows(JSON.parse(element("table").textContent));
  #query;
  #shown = [];
  #focus = 0;
  #image = -1;
  #grid;
  #typing = 0;
  #opened = null; // the fragment of the part that is shown

  constructor() {
    this.#query = this.#everything();
    // set before the grid measures how high a cell is
    const isCompared = this.#table.hasTruth && this.#table.methods.length > 1;
    for (const id of ["grid", "print"]) {
      element(id).classList.toggle("compared", isCompared);
      element(id).classList.toggle("unjudged", !this.#table.hasTruth);
    }
    this.#grid = new VirtualGrid(element("grid"), {
      make: () => element("cell").content.firstElementChild.cloneNode(true),
      draw: (cell, index) => this.#drawCell(cell, index),
      moved: () => this.#markFocus(),
    });
    this.#grid.setMinimum(THUMBNAIL);
    new Summary(this.#table, (filters) => this.#showFiltered(filters));
    this.#fillFields();
    this.#listen();
    element("views").hidden = element("help").hidden = false;
    element("views").lastElementChild.append(" ", make("small", {}, count(this.#table.size)));
    this.#select();
    this.#open();
  }

  #everything() {
    const order = Object.keys(ORDERS).find((name) => ORDERS[name].fits(this.#table));
    return { search: "", method: this.#table.main, right: null, wrong: null, truth: null, label: null, order };
  }

  // --- the parts -----------------------------------------------------------------------------------------------------

  /** Go to a part at once: the event of a new address comes later than the next key may. */
  #goTo(fragment, replaces = false) {
    if (replaces) location.replace(fragment);
    else location.hash = fragment;
    this.#open();
  }

  /** Show the part that the address names; without one that which says most. */
  #open() {
    if (this.#opened === location.hash) return;
    this.#opened = location.hash;
    const [, part = "", image = ""] = /^#(summary|images|image)(?:-(\d+))?$/.exec(location.hash) ?? [];
    const number = part === "image" && image !== "" ? Number(image) : this.#table.size === 1 && !part ? 0 : -1;
    const view = number >= 0 && number < this.#table.size ? "image" : part === "images" || (!part && !this.#table.hasTruth) ? "images" : "summary";
    this.#image = view === "image" ? number : -1;
    for (const name of ["summary", "images", "image"]) element(`${name}-view`).hidden = name !== view;
    for (const link of element("views").children) link.setAttribute("aria-current", String(link.hash === (view === "summary" ? "#summary" : "#images")));
    if (view === "image") this.#drawImage();
    else if (view === "images") this.#drawImages();
    else if (location.hash) element("summary-view").focus({ preventScroll: true });
  }

  #drawImage() {
    const index = this.#shown.indexOf(this.#image);
    if (index >= 0) this.#focus = index;
    element("image").replaceChildren(...drawImage(this.#table, this.#image));
    element("image-view").scrollTop = 0;
    element("place").textContent = index < 0 ? "not in the list" : `${count(index + 1)} of ${count(this.#shown.length)}`;
    element("previous").disabled = index <= 0;
    element("next").disabled = index < 0 || index + 1 >= this.#shown.length;
    element("image-title").focus({ preventScroll: true });
  }

  #drawImages() {
    this.#grid.refresh();
    this.#setFocus(this.#focus);
    element("grid").focus({ preventScroll: true });
  }

  #step(by) {
    const index = this.#shown.indexOf(this.#image) + by;
    if (this.#image >= 0 && this.#shown[index - by] === this.#image && index >= 0 && index < this.#shown.length) this.#goTo(`#image-${this.#shown[index]}`, true);
  }

  #showFiltered(filters) {
    this.#query = { ...this.#everything(), ...filters };
    this.#select();
    this.#goTo("#images");
  }

  // --- the list ------------------------------------------------------------------------------------------------------

  #select() {
    this.#shown = this.#table.select(this.#query);
    this.#focus = 0;
    this.#grid.setCount(this.#shown.length);
    this.#grid.rewind();
    this.#grid.refresh();
    this.#markFocus();
    const total = this.#table.size;
    const isAll = this.#shown.length === total;
    element("matches").textContent = isAll ? counted(total, "image", "images") : `${count(this.#shown.length)} of ${counted(total, "image", "images")}`;
    element("none").hidden = this.#shown.length > 0;
    element("grid").hidden = this.#shown.length === 0;
    const texts = this.#filterTexts();
    element("active").replaceChildren(...texts.map((text) => make("span", { className: "filter" }, isolated(text))));
    element("clear").hidden = !texts.length && !this.#query.search;
    element("unfold").textContent = texts.length ? `Filters (${texts.length})` : "Filters";
    this.#showFields();
  }

  #filterTexts() {
    const { methods, classes } = this.#table;
    const { right, wrong, truth, label, method } = this.#query;
    const texts = [];
    if (right !== null) texts.push(`${methods[right].name} right`);
    if (wrong !== null) texts.push(`${methods[wrong].name} wrong`);
    if (truth !== null) texts.push(`true ${classes[truth]}`);
    if (label !== null) texts.push(`${methods[method].name} predicts ${classes[label]}`);
    return texts;
  }

  #drawCell(cell, index) {
    cell.hidden = index < 0;
    const picture = cell.querySelector("img");
    if (index < 0) {
      picture.removeAttribute("src");
      return;
    }
    const table = this.#table;
    const [image, { method }] = [this.#shown[index], this.#query];
    const { margin, confidence } = table.methods[method];
    const right = table.hasTruth ? table.isRight(method, image) : null;
    const label = table.predicted(method, image);
    cell.id = `cell-${index}`;
    cell.dataset.index = index;
    cell.classList.toggle("is-wrong", right === false);
    const others = right === null ? [] : table.methods.filter((_, other) => table.isRight(other, image) !== right).map(({ name }) => `${name} ${right ? "✗" : "✓"}`);
    const put = (name, text) => {
      const line = cell.querySelector(name);
      (line.firstElementChild ?? line).textContent = line.title = text;
    };
    put(".label", label);
    put(".verdict", right === null ? "" : right ? "✓ right" : `✗ true: ${table.classes[table.truth[image]]}`);
    put(".others", others.join(" · "));
    put(".confidence", Number.isFinite(confidence[image]) ? `confidence ${figure(confidence[image], 3)}` : "");
    put(".margin", Number.isFinite(margin[image]) ? `margin ${figure(margin[image])}` : "");
    put(".source", table.names[image]);
    // the end of a name says more than its start
    const room = Math.max(12, Math.floor((this.#grid.cellWidth - 18) / 7.8));
    if (table.names[image].length > room) cell.querySelector(".source bdi").textContent = `…${table.names[image].slice(1 - room)}`;
    const uri = table.withPicture[image] && this.#grid.settled ? pictureOf(image) : "";
    if (picture.src !== uri) {
      if (uri) picture.src = uri;
      else picture.removeAttribute("src");
    }
    picture.hidden = !uri;
    cell.querySelector(".missing").textContent = uri ? "" : table.withPicture[image] ? "…" : "row only";
    cell.classList.toggle("focused", index === this.#focus);
  }

  #markFocus() {
    for (const cell of element("grid").querySelectorAll(".cell.focused")) cell.classList.remove("focused");
    const cell = element(`cell-${this.#focus}`);
    if (cell && !cell.hidden) {
      cell.classList.add("focused");
      element("grid").setAttribute("aria-activedescendant", cell.id);
    } else element("grid").removeAttribute("aria-activedescendant");
  }

  #setFocus(index) {
    this.#focus = Math.max(0, Math.min(index, this.#shown.length - 1));
    this.#grid.reveal(this.#focus);
    this.#markFocus();
  }

  // --- fields --------------------------------------------------------------------------------------------------------

  #fillFields() {
    const { methods } = this.#table;
    const named = () => methods.map(({ name }, place) => new Option(name, place));
    element("order").append(...Object.entries(ORDERS).filter(([, order]) => order.fits(this.#table)).map(([name, { text }]) => new Option(text, name)));
    element("method").append(...named());
    element("method").parentElement.hidden = methods.length < 2;
    for (const id of ["right", "wrong"]) element(id)?.append(new Option("any", ""), ...named());
    const wide = matchMedia("(min-width: 64rem)").matches;
    element("filters").hidden = !wide;
    element("unfold").setAttribute("aria-expanded", String(wide));
  }

  #showFields() {
    const query = this.#query;
    for (const id of ["order", "method", "search"]) if (element(id) !== document.activeElement) element(id).value = query[id];
    for (const id of ["right", "wrong"]) if (element(id)) element(id).value = query[id] ?? "";
    for (const id of ["truth", "label"]) {
      if (element(id) && element(id) !== document.activeElement) element(id).value = query[id] === null ? "" : this.#table.classes[query[id]];
    }
  }

  /** A class that is typed: one of that name, or the only one with it; what fits is offered. */
  #chooseClass(id) {
    const field = element(id);
    const text = field.value.trim();
    const like = text ? this.#table.classesLike(text) : this.#table.classes.map((_, position) => position);
    element(`${id}-classes`).replaceChildren(...like.slice(0, 50).map((position) => new Option(this.#table.classes[position])));
    const exact = like.filter((position) => folded(this.#table.classes[position]) === folded(text));
    const chosen = !text ? null : exact.length ? exact[0] : like.length === 1 ? like[0] : undefined;
    field.setAttribute("aria-invalid", String(Boolean(text) && !like.length));
    if (chosen !== undefined && chosen !== this.#query[id]) this.#change({ [id]: chosen });
  }

  #change(part) {
    this.#query = { ...this.#query, ...part };
    this.#select();
  }

  #search() {
    clearTimeout(this.#typing);
    if (element("search").value !== this.#query.search) this.#change({ search: element("search").value });
  }

  #clear() {
    clearTimeout(this.#typing);
    const { order, method } = this.#query;
    this.#query = { ...this.#everything(), order, method };
    for (const id of ["truth", "label", "search"]) if (element(id)) element(id).value = "";
    this.#select();
  }

  #listen() {
    addEventListener("hashchange", () => this.#open());
    document.addEventListener("DOMContentLoaded", () => {
      this.#grid.refresh();
      if (this.#image >= 0) this.#drawImage();
    });
    element("order").addEventListener("change", () => this.#change({ order: element("order").value }));
    element("method").addEventListener("change", () => this.#change({ method: Number(element("method").value) }));
    for (const id of ["right", "wrong"]) element(id)?.addEventListener("change", () => this.#change({ [id]: element(id).value === "" ? null : Number(element(id).value) }));
    for (const id of ["truth", "label"]) for (const kind of ["input", "focus"]) element(id)?.addEventListener(kind, () => this.#chooseClass(id));
    element("search").addEventListener("input", () => {
      clearTimeout(this.#typing);
      if (this.#table.size <= QUICK) this.#search();
      else this.#typing = setTimeout(() => this.#search(), 150);
    });
    element("clear").addEventListener("click", () => {
      this.#clear();
      element("grid").focus({ preventScroll: true });
    });
    element("unfold").addEventListener("click", () => {
      element("filters").hidden = !element("filters").hidden;
      element("unfold").setAttribute("aria-expanded", String(!element("filters").hidden));
    });
    element("help").addEventListener("click", () => element("keys").showModal());
    element("previous").addEventListener("click", () => this.#step(-1));
    element("next").addEventListener("click", () => this.#step(1));
    element("grid").addEventListener("click", (event) => {
      const cell = event.target.closest(".cell");
      if (cell) this.#goTo(`#image-${this.#shown[Number(cell.dataset.index)]}`);
    });
    document.addEventListener("keydown", (event) => this.#press(event));
    addEventListener("beforeprint", () => this.#print());
    addEventListener("afterprint", () => element("print").replaceChildren());
  }

  // --- keys ----------------------------------------------------------------------------------------------------------

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || element("keys").open) return;
    const { target, key } = event;
    if (target.matches("input, select")) {
      this.#pressInField(event);
      return;
    }
    const inGrid = target === element("grid");
    const act = { "/": () => this.#goToSearch(), "?": () => element("keys").showModal(), s: () => this.#goTo("#summary"), i: () => this.#goTo("#images") }[key]
      ?? (inGrid ? this.#gridKeys()[key] : this.#image >= 0 ? this.#imageKeys()[key] : undefined);
    if (!act) return;
    event.preventDefault();
    act();
  }

  #pressInField(event) {
    const field = event.target;
    if (event.key === "Enter" && field.matches("#search")) {
      event.preventDefault();
      this.#search();
      element("grid").focus({ preventScroll: true });
    } else if (event.key === "Escape" && field.matches("input")) {
      event.preventDefault();
      field.value = "";
      clearTimeout(this.#typing);
      this.#change({ [field.id]: field.id === "search" ? "" : null });
      element("grid").focus({ preventScroll: true });
    }
  }

  #goToSearch() {
    this.#goTo("#images");
    element("search").focus();
    element("search").select();
  }

  #gridKeys() {
    const { columns, pageSize } = this.#grid;
    const move = (by) => () => this.#setFocus(this.#focus + by);
    const within = (by) => () => this.#focus + by >= 0 && this.#focus + by < this.#shown.length && this.#setFocus(this.#focus + by);
    return {
      ArrowRight: move(1), ArrowLeft: move(-1), ArrowDown: within(columns), ArrowUp: within(-columns),
      PageDown: move(pageSize), PageUp: move(-pageSize), Home: () => this.#setFocus(0), End: () => this.#setFocus(this.#shown.length - 1),
      Enter: () => this.#shown.length && this.#goTo(`#image-${this.#shown[this.#focus]}`), Escape: () => this.#clear(),
    };
  }

  #imageKeys() {
    return { ArrowRight: () => this.#step(1), ArrowLeft: () => this.#step(-1), Escape: () => this.#goTo("#images") };
  }

  // --- paper ---------------------------------------------------------------------------------------------------------

  /** A list on paper has all of its images, up to a limit; paper does not scroll. */
  #print() {
    if (element("images-view").hidden) return;
    const cells = this.#shown.slice(0, PRINTED).map((_, index) => {
      const cell = element("cell").content.firstElementChild.cloneNode(true);
      this.#drawCell(cell, index);
      cell.querySelector(".source bdi").textContent = this.#table.names[this.#shown[index]];
      cell.removeAttribute("id");
      cell.classList.remove("focused");
      return cell;
    });
    const more = this.#shown.length > PRINTED ? [make("p", {}, `The first ${count(PRINTED)} of ${counted(this.#shown.length, "image", "images")}.`)] : [];
    element("print").replaceChildren(...more, make("div", { className: "cells" }, ...cells));
  }
}

new ReportViewer();
