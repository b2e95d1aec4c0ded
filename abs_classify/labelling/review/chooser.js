"use strict";
// The choice of a class by a part of its name.

/**
 * How well a folded text answers a folded query; -1 if its characters are not all there, in order.
 * Whole, at the start, at the start of a word, in the middle, scattered.
 */
function matchScore(query, text) {
  if (!query) return 0;
  if (text === query) return 1000;
  const place = text.indexOf(query);
  if (place === 0) return 900 - text.length;
  if (place > 0) return (/[\p{L}\p{N}]/u.test(text[place - 1]) ? 600 : 800) - place - text.length / 100;
  let score = 300 - text.length / 100;
  let last = -1;
  for (const character of query) {
    if (character === " ") continue;
    const next = text.indexOf(character, last + 1);
    if (next < 0) return -1;
    const starts = next === 0 || !/[\p{L}\p{N}]/u.test(text[next - 1]);
    score += starts ? 8 : next === last + 1 ? 4 : -Math.min(next - last, 10);
    last = next;
  }
  return Math.max(0, score);
}

/** The classes found by name or id, best first: {position, name, id, folds} each. */
class ClassIndex {
  constructor(classes) {
    this.entries = classes.map(({ id, name }, position) => ({ position, id, name, folds: [folded(name), folded(id)] }));
  }

  search(text, limit) {
    const query = folded(text.trim());
    const scored = [];
    for (const entry of this.entries) {
      const score = Math.max(matchScore(query, entry.folds[0]), matchScore(query, entry.folds[1]) - 50);
      if (score >= 0) scored.push([score, entry]);
    }
    scored.sort((left, right) => right[0] - left[0] || left[1].position - right[1].position);
    return { entries: scored.slice(0, limit).map(([, entry]) => entry), total: scored.length };
  }
}

/** The dialog in which a class is chosen; `open` resolves to its position, or null. */
class ClassChooser {
  static #LIMIT = 60;
  #dialog = document.getElementById("chooser");
  #input = document.getElementById("query");
  #list = document.getElementById("choices");
  #hint = document.getElementById("hint");
  #index;
  #suggested = [];
  #entries = [];
  #active = 0;
  #resolve = () => {};

  constructor(index) {
    this.#index = index;
    this.#input.addEventListener("input", () => this.#show());
    this.#input.addEventListener("keydown", (event) => this.#pressed(event));
    this.#list.addEventListener("click", (event) => {
      const item = event.target.closest("li");
      if (item) this.#finish(Number(item.dataset.position));
    });
    this.#dialog.addEventListener("click", (event) => {
      if (event.target === this.#dialog) this.#finish(null);
    });
    // the event comes late: the dialog may be open again by then
    this.#dialog.addEventListener("close", () => this.#dialog.open || this.#finish(null));
  }

  /** suggested: positions that are listed first, with what is said of each: [[position, text], ...]. */
  open(suggested, title) {
    this.#suggested = suggested;
    this.#input.value = "";
    this.#dialog.setAttribute("aria-label", title);
    this.#show();
    this.#dialog.showModal();
    this.#input.focus();
    return new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  #finish(position) {
    const resolve = this.#resolve;
    this.#resolve = () => {};
    if (this.#dialog.open) this.#dialog.close();
    resolve(position);
  }

  #show() {
    const text = this.#input.value;
    const { entries, total } = this.#index.search(text, ClassChooser.#LIMIT);
    const notes = new Map(this.#suggested);
    const first = text.trim() ? [] : this.#suggested.map(([position]) => this.#index.entries[position]);
    this.#entries = [...first, ...entries.filter((entry) => !first.includes(entry))].slice(0, ClassChooser.#LIMIT);
    this.#list.replaceChildren(
      ...this.#entries.map((entry, place) => {
        const item = document.createElement("li");
        item.id = `choice-${place}`;
        item.setAttribute("role", "option");
        item.dataset.position = String(entry.position);
        const name = document.createElement("bdi");
        name.textContent = printable(entry.name);
        const note = document.createElement("small");
        note.textContent = notes.get(entry.position) ?? (entry.id === entry.name ? "" : printable(entry.id));
        item.append(name, note);
        return item;
      }),
    );
    const more = total - this.#entries.length;
    this.#hint.textContent = !this.#entries.length
      ? "No class matches."
      : more > 0
        ? `${more.toLocaleString("en")} more: type to narrow them down`
        : "";
    this.#activate(0);
  }

  #activate(place) {
    this.#list.children[this.#active]?.setAttribute("aria-selected", "false");
    this.#active = Math.max(0, Math.min(place, this.#entries.length - 1));
    const item = this.#list.children[this.#active];
    item?.setAttribute("aria-selected", "true");
    item?.scrollIntoView({ block: "nearest" });
    if (item) this.#input.setAttribute("aria-activedescendant", item.id);
    else this.#input.removeAttribute("aria-activedescendant");
  }

  #pressed(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    if (event.key in steps) this.#activate(this.#active + steps[event.key]);
    else if (event.key === "Enter" && !event.isComposing) {
      if (this.#entries.length) this.#finish(this.#entries[this.#active].position);
    } else return;
    event.preventDefault();
  }
}
