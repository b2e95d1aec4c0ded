"use strict";
// Where texts are typed: the box in the row of a sentence, and the dialog in which one is added.

/** The box for the new text of a sentence, or for the reason of its decision; at most one is open. */
class EditBox {
  /** Whose box is open, or null. */
  sentence = null;
  /** "text" or "reason". */
  field = null;
  #review;
  #drafts = new Map();
  #input = null;
  #problem = null;

  constructor(review) {
    this.#review = review;
  }

  open(sentence, field) {
    this.sentence = sentence;
    this.field = field;
  }

  #close() {
    this.sentence = this.field = this.#input = this.#problem = null;
  }

  focus() {
    this.#input.focus({ preventScroll: true });
    this.#input.setSelectionRange(this.#input.value.length, this.#input.value.length);
  }

  /** The box as it stands in the row; drawn again it keeps what was typed. */
  draw() {
    const isText = this.field === "text";
    const stored = isText ? (this.#drafts.get(this.sentence) ?? this.#review.text(this.sentence)) : this.#review.decision(this.sentence).reason;
    const value = this.#input?.value ?? stored;
    const label = isText ? "New text" : "Reason (optional)";
    this.#input = make(isText ? "textarea" : "input", { value, placeholder: label, "aria-label": label, "aria-describedby": "box-problem" });
    if (isText) this.#input.rows = Math.min(8, Math.ceil(value.length / 70) + 1);
    else this.#input.maxLength = 4000;
    this.#problem = make("p", { className: "problem", id: "box-problem", role: "alert" });
    if (isText) this.#input.addEventListener("input", () => this.#check());
    const button = (action, text, className) => make("button", { type: "button", "data-do": action, className }, text);
    const buttons = make("div", { className: "buttons" }, button("leave", "Cancel", ""), button("keep", "Keep", "main"));
    return make("div", { className: "more" }, this.#input, this.#problem, buttons);
  }

  #check() {
    const problem = this.#review.problem(tidied(this.#input.value), this.sentence.group, this.sentence);
    this.#problem.textContent = problem;
    this.#input.setAttribute("aria-invalid", String(Boolean(problem)));
    return !problem;
  }

  /** Decide what the box says, and close it; false if the text cannot be kept, true if it was or changes nothing. */
  keep() {
    if (this.field === "text" && !this.#check()) return false;
    const { sentence, field } = this;
    const value = tidied(this.#input.value);
    this.#drafts.delete(sentence);
    this.#close();
    const before = this.#review.decision(sentence);
    const after = field === "reason" ? { ...before, reason: value } : this.#edited(sentence, value, before);
    if (!sameDecision(before, after)) this.#review.decide([[sentence, after]]);
    return true;
  }

  /** The decision that a new text is: one that changes nothing is none. */
  #edited(sentence, text, before) {
    if (sentence.added) return { decision: "add", text, reason: "" };
    if (text === sentence.text) return before?.decision === "edit" ? undefined : before;
    return { decision: "edit", text, reason: before?.decision === "edit" ? before.reason : "" };
  }

  /** Close the box and decide nothing; whether a text was typed, which is there again when the box is opened again. */
  leave() {
    const { sentence, field } = this;
    const isTyped = field === "text" && tidied(this.#input.value) !== this.#review.text(sentence);
    if (isTyped) this.#drafts.set(sentence, this.#input.value);
    this.#close();
    return isTyped;
  }
}

/** The dialog in which a sentence is added to a class. */
class AddDialog {
  #review;
  #added;
  #dialog = element("adding");
  #class = element("adding-class");
  #text = element("adding-text");

  /** added(sentence): it was added. */
  constructor(review, added) {
    this.#review = review;
    this.#added = added;
    this.#dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add();
    });
    this.#text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      this.#add();
    });
    this.#class.addEventListener("input", () => this.#suggest());
  }

  open(group) {
    this.#class.value = group ? this.#name(group) : "";
    this.#text.value = "";
    element("adding-problem").textContent = "";
    this.#dialog.showModal();
    (group ? this.#text : this.#class).focus();
  }

  /** What a class is called here: its name, with its id where another class has the same name. */
  #name(group) {
    const isUnique = this.#review.classes.every((other) => other === group || other.shown !== group.shown);
    return isUnique ? group.shown : `${group.shown} (${printable(group.id)})`;
  }

  #suggest() {
    const query = folded(this.#class.value.trim());
    const matches = this.#review.classes.filter(({ folds }) => folds.some((fold) => fold.includes(query))).slice(0, 30);
    element("adding-classes").replaceChildren(...matches.map((group) => make("option", { value: this.#name(group) })));
  }

  #add() {
    const name = this.#class.value.trim();
    const text = tidied(this.#text.value);
    const group = this.#review.classes.find((entry) => entry.id === name || this.#name(entry) === name);
    const problem = group ? this.#review.problem(text, group) : "Choose a class of the bundle";
    element("adding-problem").textContent = problem;
    if (problem) {
      (group ? this.#text : this.#class).focus();
      return;
    }
    const phrases = group.sentences.length > 0 && group.sentences.every(({ kind }) => kind === "phrase");
    const sentence = this.#review.newSentence(group, phrases ? "phrase" : "sentence");
    this.#review.decide([[sentence, { decision: "add", text, reason: "" }]]);
    this.#dialog.close();
    this.#added(sentence);
  }
}
