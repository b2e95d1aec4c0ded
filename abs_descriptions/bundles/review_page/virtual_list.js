"use strict";
// A list of any length, of which only the rows in sight exist. Rows have the height of what is in them.

// offsetHeight rounds, and rows would cover each other's borders
const heightOf = (row) => row.getBoundingClientRect().height;

class VirtualList {
  static #AHEAD = 300; // pixels beyond the edges that are drawn as well
  /** The key of the row that always exists, since the keyboard is in it. */
  current = null;
  #viewport;
  #canvas = document.createElement("div");
  #draw;
  #estimate;
  #sections = [];
  #keys = [];
  #owners = []; // the section of each key
  #places = new Map();
  #sizes = new Float64Array(0);
  #tops = new Float64Array(1);
  #heights = new Map();
  #rows = new Map();
  #frames = new Map();
  #frame = 0;
  #width = 0;
  #resized = new ResizeObserver((entries) => this.#remeasure(entries));

  /**
   * draw(key, element): fills the element of a row, or makes one if there is none; gives it.
   * estimate(key, width): the height in pixels of a row that was not drawn yet.
   */
  constructor(viewport, draw, estimate) {
    this.#viewport = viewport;
    this.#draw = draw;
    this.#estimate = estimate;
    this.#canvas.className = "canvas";
    viewport.append(this.#canvas);
    viewport.addEventListener("scroll", () => (this.#frame ||= requestAnimationFrame(() => this.#render())), { passive: true });
    new ResizeObserver(() => this.#fit()).observe(viewport);
  }

  get length() {
    return this.#keys.length;
  }

  has(key) {
    return this.#places.has(key);
  }

  element(key) {
    return this.#rows.get(key);
  }

  /** Show other rows: sections, {key, header, keys} each, where `header` is the key of a row that stays in sight, or null. */
  show(sections) {
    const anchor = this.#anchor();
    this.#sections = sections;
    this.#keys = [];
    this.#owners = [];
    this.#places = new Map();
    for (const section of sections) {
      section.first = this.#keys.length;
      if (section.header !== null) this.#append(section.header, section);
      for (const key of section.keys) this.#append(key, section);
    }
    this.#size();
    this.#layout(anchor);
    this.#render();
  }

  #append(key, section) {
    this.#places.set(key, this.#keys.length);
    this.#keys.push(key);
    this.#owners.push(section);
  }

  /** Draw a row again, if it is in sight; its height may be another one. */
  redraw(key) {
    const row = this.#rows.get(key);
    if (row) this.#draw(key, row);
    this.#heights.delete(key);
  }

  /** Bring the layout up to date after rows were drawn again. */
  update() {
    this.#render();
  }

  /** Scroll as little as needed to show a row whole, or from its top if it is larger than the list. */
  reveal(key) {
    // the rows on the way there turn out to be larger or smaller than estimated
    for (let round = 0; round < 3; round++) {
      const place = this.#places.get(key);
      if (place === undefined) return;
      const [top, bottom] = [this.#top(place), this.#tops[place + 1]];
      const { scrollTop, clientHeight } = this.#viewport;
      if (top < scrollTop || bottom - top > clientHeight) this.#viewport.scrollTop = top;
      else if (bottom > scrollTop + clientHeight) this.#viewport.scrollTop = bottom - clientHeight;
      this.#render();
    }
  }

  /** The key about a screen away from another one; `by` is 1 or -1. */
  pageAway(key, by) {
    const place = this.#places.get(key) ?? 0;
    const target = this.#tops[place] + by * 0.85 * this.#viewport.clientHeight;
    const far = Math.max(0, Math.min(this.#at(target), this.#keys.length - 1));
    return this.#keys[far === place ? Math.max(0, Math.min(place + by, this.#keys.length - 1)) : far];
  }

  /** The place of the row at a height of the canvas. */
  #at(height) {
    let [low, high] = [0, this.#keys.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#tops[middle + 1] <= height) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Where the list begins if a row is the first in sight, below the header of its section, which stays there. */
  #top(place) {
    const { header, first } = this.#owners[place];
    return this.#tops[place] - (header === null || first === place ? 0 : this.#sizes[first]);
  }

  /** Where the list is: a row and how far below the upper edge it begins, which the next layout keeps. */
  #anchor() {
    const { scrollTop, clientHeight } = this.#viewport;
    const inSight = (place) => this.#tops[place] >= scrollTop && this.#tops[place] < scrollTop + clientHeight;
    let place = this.#places.get(this.current) ?? -1;
    if (place < 0 || !inSight(place)) place = this.#at(scrollTop);
    return { keys: this.#keys, place, offset: (place < this.#keys.length ? this.#top(place) : 0) - scrollTop };
  }

  #layout({ keys, place, offset }) {
    const tops = new Float64Array(this.#keys.length + 1);
    for (let index = 0; index < this.#keys.length; index++) tops[index + 1] = tops[index] + this.#sizes[index];
    this.#tops = tops;
    this.#canvas.style.height = `${tops.at(-1)}px`;
    let kept = place;
    while (kept < keys.length && !this.#places.has(keys[kept])) kept++;
    const top = kept < keys.length ? this.#top(this.#places.get(keys[kept])) - offset : Math.min(this.#viewport.scrollTop, tops.at(-1));
    if (Math.abs(this.#viewport.scrollTop - top) >= 0.5) this.#viewport.scrollTop = top;
  }

  #size() {
    this.#sizes = Float64Array.from(this.#keys, (key) => this.#heights.get(key) ?? this.#estimate(key, this.#width));
  }

  #fit() {
    if (this.#viewport.clientWidth !== this.#width) {
      const anchor = this.#anchor();
      this.#width = this.#viewport.clientWidth;
      this.#heights.clear();
      this.#size();
      this.#layout(anchor);
    }
    this.#render();
  }

  #render() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.#viewport.clientHeight) return;
    for (let round = 0; round < 5; round++) {
      this.#populate();
      if (!this.#measure()) break;
    }
    for (const [key, row] of this.#rows) {
      const place = this.#places.get(key);
      const section = this.#owners[place];
      if (section.header !== key) row.style.top = `${this.#tops[place] - this.#tops[section.first]}px`;
    }
    for (const section of this.#frames.keys()) this.#place(section);
  }

  #place(section) {
    const { style } = this.#frames.get(section);
    const last = section.first + section.keys.length + (section.header !== null);
    style.top = `${this.#tops[section.first]}px`;
    style.height = `${this.#tops[last] - this.#tops[section.first]}px`;
  }

  /** Make the rows that are in sight, and let the others go. */
  #populate() {
    const { scrollTop, clientHeight } = this.#viewport;
    const first = this.#at(scrollTop - VirtualList.#AHEAD);
    const last = Math.min(this.#at(scrollTop + clientHeight + VirtualList.#AHEAD), this.#keys.length - 1);
    const wanted = new Set();
    const add = (place) => {
      const { header } = this.#owners[place];
      if (header !== null) wanted.add(header);
      wanted.add(this.#keys[place]);
    };
    for (let place = first; place <= last; place++) add(place);
    if (this.#places.has(this.current)) add(this.#places.get(this.current));
    for (const [key, row] of this.#rows) if (!wanted.has(key)) this.#drop(key, row);
    const sections = new Set([...wanted].map((key) => this.#owners[this.#places.get(key)]));
    const before = new Map([...this.#frames].map(([section, frame]) => [section.key, [section, frame]]));
    this.#frames = new Map();
    for (const section of [...sections].sort((left, right) => left.first - right.first)) {
      const frame = before.get(section.key)?.[1] ?? this.#canvas.appendChild(document.createElement("section"));
      before.delete(section.key);
      this.#frames.set(section, frame);
    }
    // rows of a section that is gone may be wanted in another one: then they are moved before it goes
    const places = [...wanted].map((key) => this.#places.get(key)).sort((left, right) => left - right);
    for (const section of this.#frames.keys()) this.#fill(section, places.filter((place) => this.#owners[place] === section));
    for (const [, frame] of before.values()) frame.remove();
    this.#inOrder(this.#canvas, [...this.#frames.values()]);
  }

  #fill(section, places) {
    const rows = places.map((place) => {
      const key = this.#keys[place];
      if (!this.#rows.has(key)) {
        const row = this.#draw(key, null);
        this.#rows.set(key, row);
        this.#resized.observe(row);
      }
      return this.#rows.get(key);
    });
    this.#inOrder(this.#frames.get(section), rows);
  }

  /** Put elements into their order without moving those that stand right: one that is moved loses the keyboard. */
  #inOrder(parent, elements) {
    let next = parent.firstElementChild;
    for (const element of elements) {
      if (element === next) next = next.nextElementSibling;
      else parent.insertBefore(element, next);
    }
  }

  #drop(key, row) {
    this.#resized.unobserve(row);
    row.remove();
    this.#rows.delete(key);
  }

  /** Take the heights of rows that are new; whether one was not as estimated. */
  #measure() {
    let differs = false;
    const heights = [];
    for (const [key, row] of this.#rows) if (!this.#heights.has(key)) heights.push([key, heightOf(row)]);
    for (const [key, height] of heights) {
      const place = this.#places.get(key);
      this.#heights.set(key, height);
      differs ||= Math.abs(this.#sizes[place] - height) >= 0.5;
    }
    if (!differs) return false;
    const anchor = this.#anchor();
    for (const [key, height] of heights) this.#sizes[this.#places.get(key)] = height;
    this.#layout(anchor);
    return true;
  }

  #remeasure(entries) {
    for (const { target } of entries) {
      for (const [key, row] of this.#rows) if (row === target && Math.abs(this.#heights.get(key) - heightOf(row)) >= 0.5) this.#heights.delete(key);
    }
    this.#frame ||= requestAnimationFrame(() => this.#render());
  }
}
