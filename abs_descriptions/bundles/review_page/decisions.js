"use strict";
// What is reviewed and what is decided of it: checked, counted, undone, and kept by the browser.

const DECISIONS = ["accept", "edit", "reject"];
const number = (value) => value.toLocaleString("en");
const counted = (value, singular, plural) => `${number(value)} ${value === 1 ? singular : plural}`;

/** A text as a bundle can hold it: one line, NFC, no spaces around it. */
const tidied = (text) => text.replace(/\s*[\r\n]+\s*/g, " ").normalize("NFC").trim();

/** Whether two decisions, or none, say the same. */
const sameDecision = (one, other) => one?.decision === other?.decision && one?.text === other?.text && one?.reason === other?.reason;

/**
 * The classes and sentences of a bundle and the decision on each: {decision, text, reason}, where `text` is that of an
 * edited or added sentence. Decisions are never changed, only replaced.
 */
class Review {
  static #NONE = { open: 0, accept: 0, edit: 0, reject: 0, add: 0, total: 0 };
  /** {index, id, name, shown, note, folds, sentences, added, counts, score} each. */
  classes;
  totals = { ...Review.#NONE };
  /** Whether every decision is in a file that was saved. */
  saved = true;
  /** Whether the browser keeps decisions when the page is closed. */
  kept = true;
  #sentences = new Map();
  #decisions = new Map();
  #undone = [];
  #done = [];
  #maxText;
  #prefix;
  #changed;

  /** changed(sentences): their decisions are others now. */
  constructor(data, changed) {
    this.#maxText = data.max_text;
    this.#prefix = `abs-review:${data.digest}:`;
    this.#changed = changed;
    this.classes = data.classes.map((entry, index) => this.#class(entry, index));
    for (const group of this.classes) this.#recall(group);
    this.saved = this.#stored("saved") !== "no";
    addEventListener("storage", (event) => this.#changedElsewhere(event));
  }

  #class({ id, name, shown = name, note = "", rows, score = null }, index) {
    const group = { index, id, name, shown, note, sentences: [], added: [], counts: { ...Review.#NONE }, score };
    group.folds = [folded(name), folded(id)];
    for (const [row, text, more] of rows) {
      const sentence = { id: row, text, kind: "sentence", shown: text, score: null, ...more, group, added: false, place: -1 };
      group.sentences.push(sentence);
      this.#sentences.set(row, sentence);
    }
    group.counts.total = group.counts.open = group.sentences.length;
    this.totals.total += group.sentences.length;
    this.totals.open += group.sentences.length;
    return group;
  }

  sentence(id) {
    return this.#sentences.get(id);
  }

  /** The decision on a sentence; undefined if there is none. */
  decision(sentence) {
    return this.#decisions.get(sentence.id);
  }

  /** "open", "accept", "edit", "reject" or "add". */
  state(sentence) {
    return this.decision(sentence)?.decision ?? "open";
  }

  /** What the sentence will say. */
  text(sentence) {
    return this.decision(sentence)?.text || sentence.text;
  }

  /** The sentences of a class, with those that were added. */
  all(group) {
    const added = group.added.filter((sentence) => this.#decisions.has(sentence.id));
    return added.length ? [...group.sentences, ...added] : group.sentences;
  }

  get decided() {
    return this.totals.accept + this.totals.edit + this.totals.reject;
  }

  /** How many classes have a sentence without a decision. */
  get openClasses() {
    return this.classes.reduce((sum, group) => sum + (group.counts.open > 0), 0);
  }

  /** Why a text cannot be in a class in place of a sentence, or in addition; "" if it can. */
  problem(text, group, sentence = null) {
    if (!text) return "The text is empty";
    if (/\p{Cs}/u.test(text) || text.includes("\0")) return "The text has a character that cannot be stored";
    const length = [...text].length;
    if (length > this.#maxText) return `The text has ${number(length)} characters; at most ${number(this.#maxText)} are allowed`;
    if (text === sentence?.text) return "";
    const same = this.all(group).find((other) => other !== sentence && this.state(other) !== "reject" && this.text(other) === text);
    return same ? "The class has this text already" : "";
  }

  /** A sentence whose text would be in its class twice, since another one got it back; undefined if there is none. */
  repeated() {
    for (const group of this.classes) {
      if (!group.counts.edit && !group.counts.add) continue;
      const texts = new Map();
      for (const sentence of this.all(group)) {
        if (this.state(sentence) === "reject") continue;
        const other = texts.get(this.text(sentence));
        if (other) return ["edit", "add"].includes(this.state(sentence)) ? sentence : other;
        texts.set(this.text(sentence), sentence);
      }
    }
    return undefined;
  }

  /** A new sentence of a class; it is there once it is decided to add it. */
  newSentence(group, kind) {
    return this.#register(`+${Date.now().toString(36)}.${group.added.length}`, group, kind);
  }

  #register(id, group, kind) {
    const sentence = { id, text: "", kind, shown: "", group, score: null, added: true, place: -1 };
    group.added.push(sentence);
    this.#sentences.set(id, sentence);
    return sentence;
  }

  /** Decide: [[sentence, decision or undefined], ...], one step for undo. */
  decide(changes) {
    const step = changes.map(([sentence, after]) => ({ sentence, before: this.decision(sentence), after }));
    this.#done.push(step);
    this.#undone = [];
    this.#take(step, "after");
  }

  /** Clear every decision, one step for undo; how many there were. */
  clear() {
    const decided = this.classes.flatMap((group) => this.all(group)).filter((sentence) => this.#decisions.has(sentence.id));
    if (decided.length) this.decide(decided.map((sentence) => [sentence, undefined]));
    return decided.length;
  }

  /** Take the last step back; the sentences that it was on, or null. */
  undo() {
    return this.#move(this.#done, this.#undone, "before");
  }

  redo() {
    return this.#move(this.#undone, this.#done, "after");
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  #move(from, to, side) {
    const step = from.pop();
    if (!step) return null;
    to.push(step);
    this.#take(step, side);
    return step.map(({ sentence }) => sentence);
  }

  #take(step, side) {
    for (const change of step) this.#set(change.sentence, change[side]);
    this.saved = false;
    this.#store("saved", "no");
    for (const group of new Set(step.map(({ sentence }) => sentence.group))) this.#keep(group);
    this.#changed(step.map(({ sentence }) => sentence));
  }

  #set(sentence, decision) {
    const change = (state, by) => {
      if (sentence.added && state === "open") return;
      for (const counts of [sentence.group.counts, this.totals]) {
        counts[state] += by;
        counts.total += sentence.added ? by : 0;
      }
    };
    change(this.state(sentence), -1);
    if (decision) this.#decisions.set(sentence.id, decision);
    else this.#decisions.delete(sentence.id);
    change(this.state(sentence), 1);
  }

  markSaved() {
    this.saved = true;
    this.#store("saved", "yes");
  }

  // --- the browser's storage: an entry for each class, so that a decision costs the same in any bundle --------------

  get reviewer() {
    return this.#stored("reviewer") ?? "";
  }

  set reviewer(name) {
    this.#store("reviewer", name);
  }

  #keep(group) {
    const entries = this.all(group).filter((sentence) => this.#decisions.has(sentence.id)).map((sentence) => {
      const { decision, text, reason } = this.decision(sentence);
      return [sentence.id, decision, text, reason, ...(sentence.added ? [sentence.kind] : [])];
    });
    this.#store(`class:${group.id}`, entries.length ? JSON.stringify(entries) : null);
  }

  #recall(group) {
    let entries;
    try {
      entries = JSON.parse(this.#stored(`class:${group.id}`) ?? "[]");
      for (const [id, decision, text, reason, kind] of entries) {
        const is_new = decision === "add" && id.startsWith("+");
        const sentence = this.#sentences.get(id) ?? (is_new ? this.#register(id, group, kind === "phrase" ? kind : "sentence") : null);
        if (sentence?.group !== group || !(is_new || (!sentence.added && DECISIONS.includes(decision)))) continue;
        this.#set(sentence, { decision, text: String(text), reason: String(reason) });
      }
    } catch {
      // what cannot be read was not written by this page
    }
  }

  /** Another tab with this page decided. */
  #changedElsewhere({ key, storageArea }) {
    if (storageArea !== localStorage || !key?.startsWith(`${this.#prefix}class:`)) return;
    const group = this.classes.find(({ id }) => key === `${this.#prefix}class:${id}`);
    if (!group) return;
    const before = this.all(group);
    for (const sentence of before) this.#set(sentence, undefined);
    this.#recall(group);
    this.saved = false;
    this.#changed([...new Set([...before, ...this.all(group)])]);
  }

  #stored(name) {
    try {
      return localStorage.getItem(this.#prefix + name);
    } catch {
      return null;
    }
  }

  #store(name, text) {
    try {
      if (text === null) localStorage.removeItem(this.#prefix + name);
      else localStorage.setItem(this.#prefix + name, text);
    } catch {
      this.kept = false; // full, or refused to a file
    }
  }
}
