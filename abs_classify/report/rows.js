"use strict";
// The rows of the page: what is known of every image, which of them are shown, and in which order.

const element = (id) => document.getElementById(id);
const count = (value) => value.toLocaleString("en");
const counted = (value, singular, plural) => `${count(value)} ${value === 1 ? singular : plural}`;

/** A number with as many digits as matter, and a minus that is no hyphen. */
function figure(value, digits) {
  return (digits === undefined ? Number(value.toPrecision(3)).toString() : value.toFixed(digits)).replace("-", "\u2212");
}

class ImageRows {
  constructor(data) {
    Object.assign(this, data);
    this.size = this.names.length;
    this.hasTruth = this.truth.length > 0;
    this.withPicture = new Uint8Array(this.size);
    for (const image of this.pictured) this.withPicture[image] = 1;
    this.isComplete = this.pictured.length === this.size;
    this.hasConfidence = this.methods.some((method) => method.confidence.length > 0);
    this.hasMargin = this.methods.some((method) => method.margin.length > 0);
  }

  isRight(method, image) {
    return this.methods[method].ranks[image] === 1;
  }

  /** Whether methods give an image different classes. */
  isMixed(image) {
    return this.methods.some(({ top }) => top[image] !== this.methods[0].top[image]);
  }

  predicted(method, image) {
    return this.classes[this.methods[method].top[image]];
  }

  /** The classes whose folded name has a text. */
  classesLike(text) {
    this.foldedClasses ??= this.classes.map(folded);
    const wanted = folded(text.trim());
    return this.classes.map((_, position) => position).filter((position) => this.foldedClasses[position].includes(wanted));
  }

  /** A test of images for what is typed: all of its words in the name, the true or the predicted class. */
  #search(text, method) {
    this.foldedNames ??= this.names.map(folded);
    const { top } = this.methods[method];
    const words = folded(text).split(/\s+/).filter(Boolean).map((word) => [word, new Set(this.classesLike(word))]);
    return (image) => words.every(([word, like]) => this.foldedNames[image].includes(word) || like.has(top[image]) || (this.hasTruth && like.has(this.truth[image])));
  }

  /** The positions of the images that a query asks for, in its order. */
  select({ search, method, right, wrong, truth, label, order }) {
    const tests = [];
    const { top } = this.methods[method];
    if (right !== null) tests.push((image) => this.isRight(right, image));
    if (wrong !== null) tests.push((image) => !this.isRight(wrong, image));
    if (truth !== null) tests.push((image) => this.truth[image] === truth);
    if (label !== null) tests.push((image) => top[image] === label);
    if (search.trim()) tests.push(this.#search(search, method));
    const shown = [];
    for (let image = 0; image < this.size; image++) if (tests.every((test) => test(image))) shown.push(image);
    const key = ORDERS[order].key(this, method);
    if (!key) return shown;
    const keys = new Array(this.size);
    for (const image of shown) keys[image] = key(image);
    return shown.sort((one, other) => (keys[one] < keys[other] ? -1 : keys[one] > keys[other] ? 1 : one - other));
  }

  /** How many images one method gets right and another wrong, by row and column. */
  pairs() {
    return this.methods.map((_, right) => this.methods.map((_, wrong) => {
      let images = 0;
      for (let image = 0; image < this.size; image++) images += this.isRight(right, image) && !this.isRight(wrong, image);
      return images;
    }));
  }

  /** The pairs of a true and another predicted class: [truth, label, images], the most frequent first. */
  confusions(method) {
    const { top } = this.methods[method];
    const counts = new Map();
    for (let image = 0; image < this.size; image++) {
      if (top[image] === this.truth[image]) continue;
      const pair = this.truth[image] * this.classes.length + top[image];
      counts.set(pair, (counts.get(pair) ?? 0) + 1);
    }
    return [...counts].map(([pair, images]) => [Math.floor(pair / this.classes.length), pair % this.classes.length, images])
      .sort((one, other) => other[2] - one[2] || one[0] - other[0] || one[1] - other[1]);
  }
}

/** Orders by name: what it is called, where it makes sense, and the key of an image; null for the order of the data set. */
const numbers = (column, sign) => (image) => (column[image] === null ? Infinity : sign * column[image]);
const wrongFirst = (table, method) => (image) => (table.isRight(method, image) ? (table.isMixed(image) ? 1 : 2) : 0);
const ORDERS = {
  pictures: {
    text: "With a picture first", fits: (table) => !table.isComplete && table.pictured.length > 0,
    key: (table, method) => (table.hasTruth ? (image) => 3 * !table.withPicture[image] + wrongFirst(table, method)(image) : (image) => !table.withPicture[image]),
  },
  wrong: { text: "Wrong first", fits: (table) => table.hasTruth, key: wrongFirst },
  given: { text: "As listed", fits: () => true, key: () => null },
  unsure: { text: "Lowest confidence", fits: (table) => table.hasConfidence, key: (table, method) => numbers(table.methods[method].confidence, 1) },
  sure: { text: "Highest confidence", fits: (table) => table.hasConfidence, key: (table, method) => numbers(table.methods[method].confidence, -1) },
  close: { text: "Smallest margin", fits: (table) => table.hasMargin, key: (table, method) => numbers(table.methods[method].margin, 1) },
  clear: { text: "Largest margin", fits: (table) => table.hasMargin, key: (table, method) => numbers(table.methods[method].margin, -1) },
  name: { text: "Name", fits: () => true, key: (table) => (image) => table.names[image] },
  truth: { text: "True class", fits: (table) => table.hasTruth, key: (table) => (image) => table.classes[table.truth[image]] },
  label: { text: "Predicted class", fits: () => true, key: (table, method) => (image) => table.predicted(method, image) },
};
