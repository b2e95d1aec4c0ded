"use strict";
// Which sentences are listed, and in which order.

/** Whether more images are right without a sentence than with it. */
const costs = (sentence) => Boolean(sentence.score?.gain && sentence.score.gain.lost > sentence.score.gain.won);

/** What loses most first; what has no score last. */
function byCost(left, right) {
  const points = ({ score }) => score?.gain?.points ?? Infinity;
  const margin = ({ score }) => score?.margin ?? Infinity;
  // infinity less infinity is no number, and then the order of the bundle holds
  return points(left) - points(right) || margin(left) - margin(right) || 0;
}

const byUsage = (left, right) => (right.score?.usage ?? -1) - (left.score?.usage ?? -1);

class Listing {
  /** "all", "costs" or a state of sentences. */
  show = "all";
  /** Whether the order is that of the scores. */
  byScore = false;
  /** Those that are listed, in order; each knows its `place`. */
  sentences = [];
  #review;
  #order;
  #words = [];

  constructor(review, scores) {
    this.#review = review;
    this.#order = scores?.has_truth ? byCost : byUsage;
  }

  get isWhole() {
    return this.show === "all" && !this.#words.length;
  }

  get isSearch() {
    return this.#words.length > 0;
  }

  /** Look for these words; whether they are others than before. */
  search(text) {
    const words = folded(text).split(/\s+/).filter(Boolean);
    if (words.join(" ") === this.#words.join(" ")) return false;
    this.#words = words;
    return true;
  }

  clear() {
    this.#words = [];
    this.show = "all";
  }

  /** Whether a sentence belongs into the list. */
  matches(sentence) {
    const state = this.#review.state(sentence);
    if (sentence.added && state !== "add") return false;
    if (this.show === "costs" ? !costs(sentence) : this.show !== "all" && this.show !== state) return false;
    return this.#hasWords(sentence);
  }

  has(sentence) {
    return sentence.place >= 0;
  }

  /** The place of a sentence in the list, -1 if it is not there, or none. */
  place(sentence) {
    return sentence?.place ?? -1;
  }

  /** List what matches, and `kept` in any case; gives the sections for a VirtualList. */
  list(kept) {
    const isWhole = this.isWhole;
    const listed = (sentence) => isWhole || sentence === kept || this.matches(sentence);
    for (const sentence of this.sentences) sentence.place = -1;
    this.sentences = [];
    const sections = [];
    for (const group of this.#review.classes) {
      const keys = [];
      for (const sentence of this.#review.all(group)) {
        if (!listed(sentence)) continue;
        keys.push(sentence.id);
        this.sentences.push(sentence);
      }
      if (keys.length || isWhole) sections.push({ key: group.index, header: `class:${group.index}`, keys });
    }
    if (this.byScore) this.sentences.sort(this.#order);
    for (const [place, sentence] of this.sentences.entries()) sentence.place = place;
    return this.byScore ? [{ key: "flat", header: null, keys: this.sentences.map(({ id }) => id) }] : sections;
  }

  /** Whether each word is in the sentence, its new text or its class. */
  #hasWords(sentence) {
    if (!this.#words.length) return true;
    sentence.fold ??= folded(sentence.text);
    const text = this.#review.decision(sentence)?.text;
    const fold = text ? `${sentence.fold}\n${folded(text)}` : sentence.fold;
    return this.#words.every((word) => fold.includes(word) || sentence.group.folds.some((name) => name.includes(word)));
  }
}
