"use strict";
// A grid of any number of cells of which only those in sight exist.

class VirtualGrid {
  // Browsers stop at heights between 17 and 33 million pixels; beyond this one the scroll bar stands for a longer way.
  static #MAX_HEIGHT = 8e6;
  static #GAP = 12;
  static #OVERSCAN = 1;
  count = 0;
  columns = 1;
  rowHeight = 1;
  /** Whether cells may load what is slow: not while somebody drags the scroll bar. */
  settled = true;
  #viewport;
  #canvas;
  #make;
  #draw;
  #moved;
  #rows = new Map();
  #pool = [];
  #offset = 0;
  #lastTop = 0;
  #height = 0;
  #width = 0;
  #minimum = 190;
  #textHeight = 100;
  #timer = 0;
  #frame = 0;

  /**
   * make(): a new cell. draw(cell, index): shows the item of that index in it, or none with index -1.
   * moved(first, last): the indexes in sight, after each step.
   */
  constructor(viewport, { make, draw, moved }) {
    this.#viewport = viewport;
    this.#make = make;
    this.#draw = draw;
    this.#moved = moved;
    this.#canvas = document.createElement("div");
    this.#canvas.className = "canvas";
    this.#canvas.setAttribute("role", "presentation");
    viewport.append(this.#canvas);
    viewport.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#measure()).observe(viewport);
  }

  get pageSize() {
    return Math.max(1, Math.floor(this.#height / this.rowHeight)) * this.columns;
  }

  /** The width of a cell, of which the thumbnail's follows. */
  get cellWidth() {
    return (this.#width - (this.columns - 1) * VirtualGrid.#GAP) / this.columns;
  }

  setCount(count) {
    this.count = count;
    this.#viewport.setAttribute("aria-rowcount", String(Math.ceil(count / this.columns)));
    this.#layout();
  }

  setMinimum(minimum) {
    this.#minimum = minimum;
    this.#measure();
  }

  /** Scroll to the start, as a new list does. */
  rewind() {
    this.#goTo(0);
  }

  /** Scroll as little as needed to show an item. */
  reveal(index) {
    const top = Math.floor(index / this.columns) * this.rowHeight;
    const bottom = top + this.rowHeight;
    if (top < this.#offset) this.#goTo(top);
    else if (bottom > this.#offset + this.#height) this.#goTo(bottom - this.#height);
  }

  /** Draw everything in sight again. */
  refresh() {
    for (const [row, element] of this.#rows) this.#fill(element, row);
  }

  get #total() {
    return Math.ceil(this.count / this.columns) * this.rowHeight;
  }

  get #spacer() {
    return Math.min(this.#total, VirtualGrid.#MAX_HEIGHT);
  }

  #measure() {
    const style = getComputedStyle(this.#canvas);
    this.#height = this.#viewport.clientHeight;
    this.#width = this.#canvas.clientWidth;
    this.#textHeight = Number.parseFloat(style.getPropertyValue("--text-height")) * Number.parseFloat(style.fontSize);
    const first = Math.round(this.#offset / this.rowHeight) * this.columns;
    this.columns = Math.max(this.#width > 300 ? 2 : 1, Math.floor((this.#width + VirtualGrid.#GAP) / (this.#minimum + VirtualGrid.#GAP)));
    this.rowHeight = Math.round(this.cellWidth * 0.75 + this.#textHeight + VirtualGrid.#GAP);
    this.#viewport.setAttribute("aria-colcount", String(this.columns));
    this.#viewport.setAttribute("aria-rowcount", String(Math.ceil(this.count / this.columns)));
    for (const row of [...this.#rows.keys()]) this.#release(row);
    this.#pool = [];
    this.#layout();
    this.#goTo(Math.floor(first / this.columns) * this.rowHeight);
  }

  #layout() {
    this.#canvas.style.height = `${this.#spacer}px`;
    this.#goTo(this.#offset);
  }

  #goTo(offset) {
    this.#offset = Math.max(0, Math.min(offset, this.#total - this.#height));
    this.#synchronise();
    this.#render();
  }

  /** Put the scroll bar where the offset belongs. */
  #synchronise() {
    const way = this.#total - this.#height;
    const top = way <= 0 ? 0 : (this.#offset / way) * (this.#spacer - this.#height);
    if (Math.abs(this.#viewport.scrollTop - top) >= 1) this.#viewport.scrollTop = top;
    this.#lastTop = this.#viewport.scrollTop;
  }

  #scrolled() {
    const top = this.#viewport.scrollTop;
    const step = top - this.#lastTop;
    if (!step) return;
    this.#lastTop = top;
    const end = this.#spacer - this.#height;
    const jump = Math.abs(step) > this.#height;
    // A wheel or finger moves by pixels; the scroll bar itself, dragged, by shares of the whole.
    this.#offset = jump || top <= 0 || top >= end - 1 ? (top / Math.max(1, end)) * (this.#total - this.#height) : this.#offset + step;
    this.#offset = Math.max(0, Math.min(this.#offset, this.#total - this.#height));
    if (jump) this.settled = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#total > VirtualGrid.#MAX_HEIGHT) this.#synchronise();
      this.settled = true;
      this.#render();
      this.refresh();
    }, 120);
    this.#frame ||= requestAnimationFrame(() => this.#render());
  }

  #render() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.#height) return;
    const rows = Math.ceil(this.count / this.columns);
    const first = Math.max(0, Math.floor(this.#offset / this.rowHeight) - VirtualGrid.#OVERSCAN);
    const last = Math.min(rows - 1, Math.floor((this.#offset + this.#height) / this.rowHeight) + VirtualGrid.#OVERSCAN);
    for (const row of [...this.#rows.keys()]) if (row < first || row > last) this.#release(row);
    for (let row = first; row <= last; row++) {
      let element = this.#rows.get(row);
      if (!element) {
        element = this.#pool.pop() ?? this.#makeRow();
        this.#rows.set(row, element);
        element.setAttribute("aria-rowindex", String(row + 1));
        element.hidden = false;
        this.#fill(element, row);
      }
      element.style.transform = `translateY(${row * this.rowHeight - this.#offset + this.#lastTop}px)`;
    }
    this.#moved(first * this.columns, Math.min(this.count, (last + 1) * this.columns) - 1);
  }

  #makeRow() {
    const element = document.createElement("div");
    element.className = "row";
    element.setAttribute("role", "row");
    element.style.height = `${this.rowHeight - VirtualGrid.#GAP}px`;
    element.style.gridTemplateColumns = `repeat(${this.columns}, minmax(0, 1fr))`;
    for (let column = 0; column < this.columns; column++) {
      const cell = this.#make();
      cell.setAttribute("aria-colindex", String(column + 1));
      element.append(cell);
    }
    this.#canvas.append(element);
    return element;
  }

  #fill(element, row) {
    for (let column = 0; column < this.columns; column++) {
      const index = row * this.columns + column;
      this.#draw(element.children[column], index < this.count ? index : -1);
    }
  }

  #release(row) {
    const element = this.#rows.get(row);
    this.#rows.delete(row);
    for (const cell of element.children) this.#draw(cell, -1);
    if (element.children.length === this.columns && element.style.height === `${this.rowHeight - VirtualGrid.#GAP}px`) {
      element.hidden = true;
      this.#pool.push(element);
    } else element.remove();
  }
}
