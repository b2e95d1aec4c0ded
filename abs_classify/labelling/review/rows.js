"use strict";
// The rows of the list that is shown: fetched a page at a time, and only what is near.

class RowList extends EventTarget {
  static #PAGE = 100;
  static #KEPT_PAGES = 60;
  total = null;
  problem = "";
  query = {};
  #backend;
  #ready;
  #pages = new Map();
  #requests = new Map();
  #rows = new Map();
  #generation = 0;
  #retry = 0;
  #near = [0, 0];

  /** ready(): resolves when what the page decided is on the server, whose lists of open rows depend on it. */
  constructor(backend, ready) {
    super();
    this.#backend = backend;
    this.#ready = ready;
  }

  /** Whether a row leaves the list, or comes into it, when it is decided. */
  get depends() {
    return (this.query.decided ?? "any") !== "any";
  }

  /** The row at an index, if it is here. */
  at(index) {
    const number = this.#pages.get(Math.floor(index / RowList.#PAGE))?.[index % RowList.#PAGE];
    return number === undefined ? undefined : this.#rows.get(number);
  }

  /** The row of a number, if it is here. */
  row(number) {
    return this.#rows.get(number);
  }

  /** Let the rows go: the list that comes next is another one. */
  clear() {
    this.total = null;
    this.#forget();
    this.#rows.clear();
    this.dispatchEvent(new Event("change"));
  }

  /** Show another list; its first rows come at once. */
  async open(query, start = 0) {
    this.query = query;
    this.clear();
    const page = Math.floor(start / RowList.#PAGE);
    this.#near = [page, page];
    return this.#fetch(page);
  }

  /** Fetch the rows again that are near; those that are here stay until then. */
  async reload() {
    const generation = this.#generation;
    await this.#ready();
    const [first, last] = this.#near;
    const pages = Array.from({ length: last - first + 1 }, (_, place) => first + place);
    let answers;
    try {
      answers = await Promise.all(pages.map((page) => this.#answer(page * RowList.#PAGE)));
    } catch {
      return; // what is here is shown on; the next decision or change asks again
    }
    if (generation !== this.#generation) return;
    this.#forget();
    for (const [place, answer] of answers.entries()) this.#take(pages[place], answer);
    this.dispatchEvent(new Event("change"));
  }

  /** The index of a row that is here, or -1. */
  indexOf(number) {
    for (const [page, numbers] of this.#pages) {
      const place = numbers.indexOf(number);
      if (place >= 0) return page * RowList.#PAGE + place;
    }
    return -1;
  }

  /** Fetch what is missing around these indexes, and nothing else any more. */
  want(first, last) {
    if (this.total === null || !this.total) return;
    const end = Math.floor((this.total - 1) / RowList.#PAGE);
    const near = [Math.max(0, Math.floor((first - 20) / RowList.#PAGE)), Math.min(end, Math.floor((last + 20) / RowList.#PAGE))];
    this.#near = near;
    for (const [page, controller] of this.#requests) if (page < near[0] || page > near[1]) controller.abort();
    for (const page of this.#missing()) this.#fetch(page);
  }

  /** The rows of these indexes, fetched if needed. */
  async rowsBetween(first, last) {
    const rows = [];
    for (let page = Math.floor(first / RowList.#PAGE); page <= Math.floor(last / RowList.#PAGE); page++) {
      let numbers = this.#pages.get(page)?.map((number) => this.#rows.get(number));
      if (!numbers) ({ rows: numbers } = await this.#answer(page * RowList.#PAGE));
      for (const [place, row] of numbers.entries()) {
        const index = page * RowList.#PAGE + place;
        if (index >= first && index <= last && row) rows.push(row);
      }
    }
    return rows;
  }

  /** Take newer rows from the server; whether one is of this list. */
  update(rows) {
    let known = false;
    for (const row of rows) {
      const old = this.#rows.get(row.number);
      if (!old) continue;
      // why it is shown is of the list, not of the row
      this.#rows.set(row.number, { ...row, shown_by: old.shown_by });
      known = true;
    }
    return known;
  }

  /** The index of the first row from `start` on of which `wanted(row)` holds, or -1. */
  async next(start, wanted) {
    for (let index = start; this.total !== null && index < this.total; ) {
      const row = this.at(index);
      if (row) {
        if (wanted(row)) return index;
        index++;
        continue;
      }
      const answer = await this.#backend.images({ ...this.query, open: 1 }, index, 1);
      if (!answer.rows.length) return -1;
      index = answer.start;
      if (wanted(answer.rows[0])) return index;
      index++;
    }
    return -1;
  }

  #forget() {
    this.#generation++;
    clearTimeout(this.#retry);
    for (const controller of this.#requests.values()) controller.abort();
    this.#requests.clear();
    this.#pages.clear();
  }

  #missing() {
    const pages = [];
    for (let page = this.#near[0]; page <= this.#near[1]; page++) {
      if (!this.#pages.has(page) && !this.#requests.has(page)) pages.push(page);
    }
    return pages;
  }

  #answer(start, signal) {
    return this.#backend.images(this.query, start, RowList.#PAGE, signal);
  }

  async #fetch(page) {
    const generation = this.#generation;
    const controller = new AbortController();
    this.#requests.set(page, controller);
    try {
      if (this.depends) await this.#ready();
      if (generation !== this.#generation) return;
      const answer = await this.#answer(page * RowList.#PAGE, controller.signal);
      if (generation !== this.#generation) return;
      this.problem = "";
      this.#take(page, answer);
    } catch (error) {
      if (generation !== this.#generation || error.name === "AbortError") return;
      this.problem = error.message;
      this.#retry = setTimeout(() => {
        for (const missing of this.#missing()) this.#fetch(missing);
      }, 2000);
    } finally {
      if (this.#requests.get(page) === controller) this.#requests.delete(page);
    }
    this.dispatchEvent(new Event("change"));
  }

  #take(page, { total, rows }) {
    this.total = total;
    for (const row of rows) this.#rows.set(row.number, row);
    this.#pages.set(page, rows.map((row) => row.number));
    this.#evict();
  }

  #evict() {
    const [first, last] = this.#near;
    const distance = (page) => Math.max(first - page, page - last, 0);
    const pages = [...this.#pages.keys()].sort((left, right) => distance(right) - distance(left));
    for (const page of pages.slice(0, Math.max(0, pages.length - RowList.#KEPT_PAGES))) {
      for (const number of this.#pages.get(page)) this.#rows.delete(number);
      this.#pages.delete(page);
    }
  }
}
