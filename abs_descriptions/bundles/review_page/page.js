"use strict";
// The page: where the keyboard is, and what keys and buttons do.

class ReviewPage {
  #data;
  #review;
  #listing;
  #status;
  #box;
  #adding;
  #list;
  #classList;
  #current = null;
  #find = "";
  #timers = {};

  constructor(data) {
    this.#data = data;
    this.#review = new Review(data, (sentences) => this.#changed(sentences));
    this.#listing = new Listing(this.#review, data.scores);
    this.#status = new StatusBar(this.#review, this.#listing, Boolean(data.scores?.has_truth));
    this.#box = new EditBox(this.#review);
    this.#adding = new AddDialog(this.#review, (sentence) => this.#added(sentence));
    this.#list = new VirtualList(element("list"), (key, row) => this.#draw(key, row), (key, width) => this.#estimate(key, width));
    this.#classList = new VirtualList(element("classes"), (key, row) => this.#drawClass(key, row), () => 34);
  }

  start() {
    element("app").hidden = false;
    element("name").value = this.#review.reviewer;
    this.#startScores();
    this.#listen();
    this.#showClasses();
    this.#relist();
    const { sentences } = this.#listing;
    this.#go(sentences.find((sentence) => this.#review.state(sentence) === "open") ?? sentences[0] ?? null);
    this.#status.show();
  }

  #startScores() {
    const { scores } = this.#data;
    if (!scores) return;
    element("order").hidden = element("about").hidden = false;
    element("order").textContent = scores.has_truth ? "Costliest first" : "Most used first";
    element("scores").querySelector("dl").append(...scores.facts.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, isolated(text)))));
    element("scores").querySelector("ul").append(...scores.remarks.map((text) => make("li", {}, isolated(text))));
  }

  // --- what is listed ------------------------------------------------------------------------------------------------

  /** List anew what matches; the current sentence stays until the keyboard leaves it. */
  #relist() {
    const listing = this.#listing;
    this.#list.show(listing.list(this.#current));
    element("listed").textContent = listing.isWhole ? "" : `${number(listing.sentences.length)} listed`;
    const isEmpty = !this.#list.length;
    element("notice").hidden = !isEmpty;
    if (!isEmpty) return;
    const [title, text] = element("notice").firstElementChild.children;
    const isDone = listing.show === "open" && !listing.isSearch;
    title.textContent = isDone ? "Everything is decided" : "No sentence matches";
    text.textContent = isDone ? "Save the decisions, and send the file back." : "Another search or filter may show more.";
  }

  /** List anew after another filter or search: the keyboard stays with its sentence if that matches, else goes to the first. */
  #reopen() {
    const kept = this.#current && this.#listing.matches(this.#current) ? this.#current : null;
    if (!kept) this.#current = this.#list.current = null;
    this.#relist();
    this.#go(kept ?? this.#listing.sentences[0] ?? null, false);
    this.#status.show();
  }

  #setShow(show) {
    this.#listing.show = show;
    this.#reopen();
  }

  #setOrder() {
    if (!this.#data.scores) return;
    const listing = this.#listing;
    listing.byScore = !listing.byScore;
    // the same rows look otherwise then
    this.#list.show([]);
    this.#relist();
    this.#go(listing.byScore ? (listing.sentences[0] ?? null) : this.#current);
    this.#status.show();
  }

  #search() {
    clearTimeout(this.#timers.search);
    if (this.#listing.search(element("search").value)) this.#reopen();
  }

  #clearFilters() {
    element("search").value = "";
    this.#listing.clear();
    this.#relist();
    this.#go(this.#current ?? this.#listing.sentences[0] ?? null);
    this.#status.show();
  }

  // --- drawing -------------------------------------------------------------------------------------------------------

  #draw(key, row) {
    if (key.startsWith("class:")) return drawClass(row, this.#review.classes[Number(key.slice(6))], this.#review.classes);
    const sentence = this.#review.sentence(key);
    const isOpen = this.#box.sentence === sentence;
    const view = { review: this.#review, scores: this.#data.scores, editing: isOpen ? this.#box.field : null, flat: this.#listing.byScore };
    const article = drawSentence(row, sentence, view);
    this.#mark(article, sentence === this.#current);
    article.setAttribute("aria-posinset", String(this.#listing.place(sentence) + 1));
    article.setAttribute("aria-setsize", String(this.#listing.sentences.length));
    if (isOpen) article.append(this.#box.draw());
    return article;
  }

  #estimate(key, width) {
    if (key.startsWith("class:")) return this.#review.classes[Number(key.slice(6))].score ? 70 : 46;
    const { text, score } = this.#review.sentence(key);
    const isNarrow = width <= 640;
    const lines = Math.ceil(text.length / Math.max(20, (width - (isNarrow ? 40 : 260)) / 7));
    return 22 + 21 * lines + (isNarrow ? 44 : 0) + (score ? 24 + (score.examples.length ? 66 : 0) : 0) + (this.#listing.byScore ? 20 : 0);
  }

  #drawClass(key, row) {
    const group = this.#review.classes[key];
    return drawClassButton(row, group, group === this.#current?.group);
  }

  #redraw(sentence) {
    this.#list.redraw(sentence.id);
    this.#list.update();
  }

  /** The classes beside the list: those that the field above them finds. */
  #showClasses() {
    const words = folded(this.#find).split(/\s+/).filter(Boolean);
    const keys = this.#review.classes.filter(({ folds }) => words.every((word) => folds.some((fold) => fold.includes(word)))).map(({ index }) => index);
    this.#classList.show([{ key: "classes", header: null, keys }]);
  }

  /** Decisions are others now: show it where it is in sight. */
  #changed(sentences) {
    const isMoved = (sentence) => sentence !== this.#current && this.#listing.has(sentence) !== this.#listing.matches(sentence);
    if (sentences.some(isMoved)) this.#relist();
    for (const sentence of sentences) this.#list.redraw(sentence.id);
    for (const group of new Set(sentences.map((sentence) => sentence.group))) {
      this.#list.redraw(`class:${group.index}`);
      this.#classList.redraw(group.index);
    }
    this.#list.update();
    this.#classList.update();
    this.#status.show();
  }

  // --- where the keyboard is -----------------------------------------------------------------------------------------

  /** Make a sentence the current one; `take`: whether the keyboard goes there. */
  #go(sentence, take = true) {
    const before = this.#current;
    this.#current = sentence;
    this.#list.current = sentence?.id ?? null;
    if (before && before !== sentence) {
      // a sentence that was only kept in the list for the keyboard leaves it
      if (!this.#listing.matches(before)) this.#relist();
      this.#mark(this.#list.element(before.id), false);
    }
    if (before?.group !== sentence?.group) this.#markClass(before?.group, sentence?.group);
    if (sentence) {
      this.#list.reveal(sentence.id);
      this.#mark(this.#list.element(sentence.id), true);
    }
    if (take) this.#takeFocus();
  }

  /** The current row and its buttons alone can be reached with the tab key. */
  #mark(row, isCurrent) {
    if (!row) return;
    row.classList.toggle("current", isCurrent);
    for (const target of [row, ...row.querySelectorAll(".choices button")]) target.tabIndex = isCurrent ? 0 : -1;
  }

  #markClass(before, group) {
    this.#classList.current = group?.index ?? null;
    for (const changed of [before, group]) if (changed) this.#classList.redraw(changed.index);
    if (group) this.#classList.reveal(group.index);
  }

  /** Put the keyboard where the current sentence is. */
  #takeFocus() {
    const row = this.#current && this.#list.element(this.#current.id);
    if (row) row.focus({ preventScroll: true });
    else document.activeElement?.blur();
  }

  #step(by) {
    const { sentences } = this.#listing;
    const next = sentences[Math.max(0, Math.min(this.#listing.place(this.#current) + by, sentences.length - 1))];
    if (next) this.#go(next);
  }

  #page(by) {
    if (!this.#current) return;
    const key = this.#list.pageAway(this.#current.id, by);
    const group = key.startsWith("class:") ? this.#review.classes[Number(key.slice(6))] : null;
    const sentence = group ? this.#listing.sentences.find((other) => other.group === group) : this.#review.sentence(key);
    this.#go(sentence ?? this.#current);
  }

  /** To the first listed sentence of the next or previous class that has one. */
  #stepClass(by) {
    const { sentences } = this.#listing;
    let place = Math.max(0, this.#listing.place(this.#current));
    while (sentences[place] && sentences[place].group === this.#current.group) place += by;
    const target = sentences[place];
    if (!target) return this.#say(by > 0 ? "This is the last class" : "This is the first class", false);
    while (by < 0 && sentences[place - 1]?.group === target.group) place--;
    return this.#go(sentences[place]);
  }

  #goToClass(group) {
    this.#closeSide();
    const first = () => this.#listing.sentences.find((sentence) => sentence.group === group);
    if (!first()) this.#clearFilters();
    if (first()) return this.#go(first());
    this.#list.reveal(`class:${group.index}`);
    return this.#say("This class has no sentence", false);
  }

  /** To the next undecided sentence behind a place, or else the first one. */
  #goToOpen(place) {
    const { sentences } = this.#listing;
    const isOpen = (sentence) => this.#review.state(sentence) === "open";
    const next = sentences.find((sentence, index) => index >= place && isOpen(sentence)) ?? sentences.find(isOpen);
    this.#go(next ?? sentences[Math.min(place, sentences.length - 1)] ?? null);
    if (!next) this.#say(this.#review.totals.open ? "Every sentence that is listed is decided" : "Every sentence is decided: save the decisions (Ctrl+S)", false);
  }

  // --- decisions -----------------------------------------------------------------------------------------------------

  /** Decide on the current sentence and go on: to the next undecided one, or after a change to the next. */
  #decideAndGoOn(decision) {
    const sentence = this.#current;
    if (!sentence || (sentence.added && decision === "accept")) return;
    const place = this.#listing.place(sentence);
    const isFirst = this.#review.state(sentence) === "open";
    this.#decide(sentence, decision);
    if (isFirst) this.#goToOpen(place + 1);
    else this.#go(this.#listing.sentences[place + 1] ?? this.#listing.sentences[place]);
  }

  /** Accept, reject or, with "", clear; an added sentence is rejected or cleared by removing it. */
  #decide(sentence, decision) {
    const before = this.#review.decision(sentence);
    if ((before?.decision ?? "") === decision) return;
    this.#review.decide([[sentence, decision && !sentence.added ? { decision, text: "", reason: "" } : undefined]]);
    this.#say(sentence.added ? "Removed" : STATES[decision] ?? "Decision cleared");
  }

  #rejectWithReason() {
    const sentence = this.#current;
    if (!sentence) return;
    this.#decide(sentence, "reject");
    if (!sentence.added) this.#edit("reason");
  }

  #acceptClass(group) {
    const open = group?.sentences.filter((sentence) => this.#review.state(sentence) === "open") ?? [];
    if (!open.length) return this.#say("Nothing is undecided in this class", false);
    const hidden = open.filter((sentence) => !this.#listing.has(sentence)).length;
    const place = this.#listing.place(open.find((sentence) => this.#listing.has(sentence)) ?? this.#current);
    this.#review.decide(open.map((sentence) => [sentence, { decision: "accept", text: "", reason: "" }]));
    this.#goToOpen(Math.max(0, place));
    return this.#say(`Accepted ${number(open.length)} of ${group.shown}${hidden ? `, ${number(hidden)} of them not listed` : ""}`);
  }

  /** Undo, or with "redo" do again; the keyboard goes where that was. */
  #undo(step) {
    const sentences = this.#review[step]();
    if (!sentences) return this.#say(`There is nothing to ${step}`, false);
    const target = sentences.find((sentence) => this.#listing.matches(sentence));
    if (target) this.#go(target);
    else this.#reopen();
    const what = sentences.length > 1 ? `: ${number(sentences.length)} decisions` : "";
    return this.#say(`${step === "undo" ? "Undone" : "Done again"}${what}`, false);
  }

  #showKeys() {
    element("keys").showModal();
    element("keys").querySelector("[value=cancel]").focus();
  }

  #clearAll() {
    element("keys").close();
    const count = this.#review.clear();
    this.#clearFilters();
    this.#say(count ? `Cleared ${counted(count, "decision", "decisions")}` : "There is no decision", count > 0);
  }

  #added(sentence) {
    if (!this.#listing.has(sentence)) this.#clearFilters();
    this.#go(sentence);
    this.#say(`Added to ${sentence.group.shown}`);
  }

  // --- editing in place ----------------------------------------------------------------------------------------------

  #edit(field) {
    const sentence = this.#current;
    if (!sentence) return;
    if (field === "reason" && !["edit", "reject"].includes(this.#review.state(sentence))) {
      this.#say("A reason belongs to a rejected or edited sentence", false);
      return;
    }
    this.#box.open(sentence, field);
    this.#redraw(sentence);
    this.#list.reveal(sentence.id);
    this.#box.focus();
  }

  /** Keep what is in the box, if one is open; false if that cannot be kept. */
  #keep() {
    const { sentence } = this.#box;
    if (!sentence) return true;
    const isKept = this.#box.keep();
    if (isKept) this.#redraw(sentence);
    else this.#box.focus();
    return isKept;
  }

  #finish() {
    const { sentence, field } = this.#box;
    const wasOpen = this.#review.state(sentence) === "open";
    if (!this.#keep()) return;
    const state = this.#review.state(sentence);
    if (state === "open") return this.#takeFocus();
    if (wasOpen || field === "reason") this.#goToOpen(this.#listing.place(sentence) + 1);
    else this.#takeFocus();
    return this.#say(field === "text" ? STATES[state] : "Reason kept");
  }

  #leave() {
    const { sentence } = this.#box;
    if (this.#box.leave()) this.#say("The new text was not kept; e opens it again", false);
    this.#redraw(sentence);
    this.#takeFocus();
  }

  // --- files ---------------------------------------------------------------------------------------------------------

  #save() {
    if (element("save").disabled) return this.#say("There is no decision to save", false);
    const repeated = this.#review.repeated();
    if (repeated) {
      this.#alert(`Two sentences of ${repeated.group.shown} would have the same text. Edit or reject one of them, then save.`);
      this.#clearFilters();
      return this.#go(repeated);
    }
    const name = downloadReview(this.#review, this.#data, element("name").value.trim());
    this.#review.markSaved();
    this.#alert("");
    this.#status.show();
    return this.#say(`Saved as ${name}: send this file back`, false);
  }

  async #load(file) {
    try {
      const { changes, reviewer } = readDecisions(decodedText(await file.arrayBuffer()), this.#review, this.#data.bundle);
      const news = changes.filter(([sentence, after]) => !sameDecision(this.#review.decision(sentence), after));
      const replaced = news.filter(([sentence]) => this.#review.decision(sentence)).length;
      if (news.length) this.#review.decide(news);
      if (reviewer && !element("name").value) element("name").value = this.#review.reviewer = reviewer;
      this.#alert("");
      this.#reopen();
      this.#say(`Loaded ${counted(changes.length, "decision", "decisions")}${replaced ? `; ${number(replaced)} replaced yours` : ""}`, news.length > 0);
    } catch (error) {
      if (!(error instanceof FileProblem) && error.name !== "NotReadableError") throw error;
      this.#alert(`“${printable(file.name)}” was not loaded. ${error.message}.`);
    }
    this.#takeFocus();
  }

  #alert(text) {
    element("alerts").textContent = text;
  }

  #say(text, undoable = true) {
    const toast = element("toast");
    toast.firstElementChild.textContent = undoable ? `${text} · u takes it back` : text;
    toast.classList.add("shown");
    clearTimeout(this.#timers.toast);
    this.#timers.toast = setTimeout(() => toast.classList.remove("shown"), 3000);
  }

  // --- keys, clicks --------------------------------------------------------------------------------------------------

  #keys = {
    a: () => this.#decideAndGoOn("accept"),
    r: () => this.#decideAndGoOn("reject"),
    "Shift+r": () => this.#rejectWithReason(),
    e: () => this.#edit("text"),
    w: () => this.#edit("reason"),
    c: () => this.#current && this.#decide(this.#current, ""),
    "Shift+a": () => this.#acceptClass(this.#current?.group),
    "+": () => this.#adding.open(this.#current?.group),
    u: () => this.#undo("undo"),
    "Shift+u": () => this.#undo("redo"),
    j: () => this.#step(1),
    ArrowDown: () => this.#step(1),
    k: () => this.#step(-1),
    ArrowUp: () => this.#step(-1),
    n: () => this.#goToOpen(this.#listing.place(this.#current) + 1),
    "Shift+j": () => this.#stepClass(1),
    ArrowRight: () => this.#stepClass(1),
    "Shift+k": () => this.#stepClass(-1),
    ArrowLeft: () => this.#stepClass(-1),
    PageDown: () => this.#page(1),
    PageUp: () => this.#page(-1),
    Home: () => this.#step(-Infinity),
    End: () => this.#step(Infinity),
    "/": () => element("search").select(),
    s: () => element("search").select(),
    g: () => this.#findClass(),
    o: () => this.#setOrder(),
    "?": () => this.#showKeys(),
    Escape: () => (element("side").classList.contains("open") ? this.#closeSide() : this.#clearFilters()),
  };

  #control = { z: () => this.#undo("undo"), y: () => this.#undo("redo"), "Shift+z": () => this.#undo("redo"), s: () => this.#save() };

  #action(key, isControl) {
    const show = !isControl && /^\d$/.test(key) ? this.#status.filter(key) : undefined;
    if (show) return () => this.#setShow(show);
    return isControl ? this.#control[key] : this.#keys[key];
  }

  #pressed(event) {
    if (event.isComposing || event.altKey || document.querySelector("dialog[open]")) return;
    const { target } = event;
    const isControl = event.ctrlKey || event.metaKey;
    const isTyping = target.matches("input, textarea");
    if (isTyping && !isControl) return this.#pressedInField(event);
    if (target.matches("button") && (event.key === "Enter" || event.key === " ")) return;
    // layouts without Latin letters say which key it is by its place; Caps Lock is no Shift
    const letter = /^[^\x20-\x7e]$/.test(event.key) && event.code.startsWith("Key") ? event.code.slice(3) : event.key;
    const key = /^[a-z]$/i.test(letter) ? `${event.shiftKey ? "Shift+" : ""}${letter.toLowerCase()}` : letter;
    if (isTyping && key !== "s") return; // such as undo in the field
    const act = this.#action(key, isControl);
    if (!act) return;
    event.preventDefault();
    if (event.repeat && !/^(Arrow.*|Page.*|(Shift\+)?[jkuz])$/.test(key)) return;
    if (this.#keep()) act();
  }

  #pressedInField(event) {
    const { target, key } = event;
    const isEnd = key === "Enter" || key === "Escape";
    if (target.closest("article")) {
      if (!isEnd) return;
      if (key === "Enter") this.#finish();
      else this.#leave();
    } else if (isEnd || (key === "ArrowDown" && target.id === "search")) {
      if (target.id === "search") this.#search();
      if (target.id === "find") this.#found(key === "Enter");
      this.#takeFocus();
    } else return;
    event.preventDefault();
  }

  /** Beside the list the classes are always in sight, before it on a narrow screen only when they are asked for. */
  #openSide() {
    element("side").classList.add("open");
    element("pick").setAttribute("aria-expanded", "true");
  }

  #closeSide() {
    element("side").classList.remove("open");
    element("pick").setAttribute("aria-expanded", "false");
  }

  #findClass() {
    this.#openSide();
    element("find").select();
  }

  /** Leave the field above the classes; `go`: to the first class that it finds. */
  #found(go) {
    const first = go ? element("classes").querySelector("button") : null;
    element("find").value = this.#find = "";
    this.#showClasses();
    if (first) this.#goToClass(this.#review.classes[Number(first.dataset.class)]);
    else this.#closeSide();
  }

  #clicked(event) {
    const article = event.target.closest("article");
    const action = event.target.closest("button")?.dataset.do;
    const group = this.#review.classes[event.target.closest("header.class")?.dataset.class];
    if (event.target.closest(".more")) {
      if (action === "keep") this.#finish();
      else if (action === "leave") this.#leave();
      return;
    }
    if (!this.#keep()) return;
    if (group && action === "add") return void this.#adding.open(group);
    if (group && action) this.#acceptClass(group);
    // to copy a part of a text is no choice of its sentence
    if (article && (action || !getSelection().toString())) this.#go(this.#review.sentence(article.dataset.id), false);
    if (article && action) this.#choose(action);
    if (!this.#box.sentence) this.#takeFocus();
  }

  /** A button of the current sentence: pressed again it clears the decision. */
  #choose(action) {
    if (action === "edit") this.#edit("text");
    else if (action === "reason") this.#edit("reason");
    else this.#decide(this.#current, this.#review.state(this.#current) === action ? "" : action);
  }

  #listen() {
    const click = (id, act) => element(id).addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button || !this.#keep()) return;
      act(button);
      if (!document.querySelector("dialog[open]")) this.#takeFocus();
    });
    document.addEventListener("keydown", (event) => this.#pressed(event));
    element("list").addEventListener("click", (event) => this.#clicked(event));
    click("show", (button) => this.#setShow(button.dataset.show));
    click("classes", (button) => this.#goToClass(this.#review.classes[Number(button.dataset.class)]));
    click("order", () => this.#setOrder());
    click("undo", () => this.#undo("undo"));
    click("redo", () => this.#undo("redo"));
    click("pick", () => (element("side").classList.contains("open") ? this.#closeSide() : this.#openSide()));
    click("help", () => this.#showKeys());
    click("clear", () => this.#clearAll());
    click("about", () => element("scores").showModal());
    click("save", () => this.#save());
    click("load", () => element("file").click());
    click("notice", () => this.#clearFilters());
    this.#listenToFields();
    for (const dialog of document.querySelectorAll("dialog")) {
      // the event comes later, and the next key may have opened a field by then
      dialog.addEventListener("close", () => document.activeElement?.matches("input, textarea") || this.#takeFocus());
      dialog.addEventListener("click", ({ target }) => (target === dialog || target.value === "cancel") && dialog.close());
    }
    addEventListener("pagehide", () => this.#keep());
    addEventListener("beforeunload", (event) => this.#review.saved || this.#review.kept || event.preventDefault());
    addEventListener("beforeprint", () => element("print").replaceChildren(...drawPrint(this.#listing.sentences, this.#review)));
    addEventListener("afterprint", () => element("print").replaceChildren());
  }

  #listenToFields() {
    element("file").addEventListener("change", ({ target }) => {
      if (target.files[0]) this.#load(target.files[0]);
      target.value = "";
    });
    element("name").addEventListener("input", ({ target }) => (this.#review.reviewer = target.value));
    element("find").addEventListener("input", ({ target }) => {
      this.#find = target.value;
      this.#showClasses();
    });
    element("search").addEventListener("input", () => {
      clearTimeout(this.#timers.search);
      this.#timers.search = setTimeout(() => this.#search(), 150);
    });
  }
}

new ReviewPage(JSON.parse(element("data").textContent)).start();
