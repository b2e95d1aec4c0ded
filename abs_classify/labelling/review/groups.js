"use strict";
// The classes, or pairs of classes that are confused, beside the grid: how many images each has, and which is chosen.

class GroupList {
  static #NONE = { label: null, second: null };
  static #LIMIT = 300;
  /** The class positions whose images are listed; null for all. */
  chosen = GroupList.#NONE;
  #index;
  #names;
  #changed;
  #groups = [];
  #all = "";

  /** changed(): another group was chosen. */
  constructor(index, names, changed) {
    this.#index = index;
    this.#names = names;
    this.#changed = changed;
    element("narrow").addEventListener("input", () => this.#draw());
    element("pick").addEventListener("click", () => element("side").classList.toggle("open"));
  }

  /** Groups, {label, second, rows} each, of which the first is chosen; `all`: what having chosen none is called. */
  show(groups, all) {
    this.#groups = groups;
    this.#all = all;
    this.chosen = groups.length ? { label: groups[0].label, second: groups[0].second } : GroupList.#NONE;
    element("narrow").value = "";
    this.#draw();
  }

  #isChosen({ label, second }) {
    return label === this.chosen.label && second === this.chosen.second;
  }

  #choose(group) {
    this.chosen = this.#isChosen(group) ? GroupList.#NONE : { label: group.label, second: group.second };
    element("side").classList.remove("open");
    this.#draw();
    this.#changed();
  }

  #draw() {
    const query = folded(element("narrow").value.trim());
    const positions = ({ label, second }) => [label, second].filter((position) => position !== null);
    const matches = this.#groups.filter((group) =>
      positions(group).some((position) => this.#index.entries[position].folds.some((fold) => fold.includes(query))));
    const most = this.#groups.reduce((largest, { rows }) => Math.max(largest, rows), 1);
    const items = matches.slice(0, GroupList.#LIMIT).map((group) => this.#item(group, group.rows / most));
    if (matches.length !== items.length || !matches.length) {
      const rest = document.createElement("li");
      rest.className = "more";
      rest.textContent = matches.length ? `${number(matches.length - items.length)} more: type to narrow them down` : "None.";
      items.push(rest);
    }
    element("groups").replaceChildren(...items);
    const names = positions(this.chosen).map((position) => this.#names[position]);
    element("pick").textContent = names.join(" or ") || this.#all;
  }

  #item(group, share) {
    const button = document.createElement("button");
    button.type = "button";
    button.style.setProperty("--share", `${100 * share}%`);
    button.setAttribute("aria-pressed", String(this.#isChosen(group)));
    button.addEventListener("click", () => this.#choose(group));
    const name = document.createElement("span");
    name.append(this.#name(group.label));
    if (group.second !== null) {
      const or = document.createElement("i");
      or.textContent = "or";
      name.append(or, this.#name(group.second));
    }
    const amount = document.createElement("small");
    amount.textContent = number(group.rows);
    button.append(name, amount);
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  #name(position) {
    const name = document.createElement("bdi");
    name.textContent = this.#names[position];
    return name;
  }
}
