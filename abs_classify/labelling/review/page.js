"use strict";
// The page: what is shown of the rows, and what keys and buttons do.

const THUMBNAILS = [120, 190, 270, 380];
// what the queue is for: the rest is labelled with confidence, or cannot be looked at
const DOUBTED = ["doubtful", "rejected"];

class ReviewPage {
  #backend;
  #run;
  #names;
  #chooser;
  #outbox;
  #list;
  #grid;
  #focus = 0;
  #focused = null; // the number of the focused row, which outlives a reload
  #anchor = null;
  #selection = null; // [first, last] index
  #undo = [];
  #view = "queue";
  #groups;
  #size = matchMedia("(max-width: 30rem)").matches ? 0 : 1;
  #large = false;
  #token = "";
  #reviewed = 0;
  #recent = [];
  #openings = 0;
  #told = false;
  #reloads = 0;
  #toasts = 0;
  #away = false;
  #refusal = "";
  #turn = Promise.resolve();
  #wide = matchMedia("(min-width: 68rem)");

  constructor(backend, run) {
    this.#backend = backend;
    this.#run = run;
    this.#names = run.classes.map((entry) => printable(entry.name));
    const index = new ClassIndex(run.classes);
    this.#chooser = new ClassChooser(index);
    this.#groups = new GroupList(index, this.#names, () => {
      this.#open();
      if (!this.#wideSide()) this.#takeFocus();
    });
    this.#reviewed = run.reviewed;
    this.#outbox = new Outbox(backend);
    this.#list = new RowList(backend, () => this.#outbox.idle());
    this.#grid = new VirtualGrid(element("grid"), {
      make: () => element("card").content.firstElementChild.cloneNode(true),
      draw: (cell, index) => this.#drawCell(cell, index),
      moved: (first, last) => this.#list.want(first, last),
    });
    this.#grid.setMinimum(THUMBNAILS[this.#size]);
  }

  start() {
    const title = printable(this.#run.title);
    document.title = `Review of ${title}`;
    element("title").textContent = title;
    document.body.classList.toggle("embedded", this.#backend.embedded);
    const statuses = Object.entries(this.#run.counts).filter(([, rows]) => rows);
    element("status").replaceChildren(
      new Option("All", ""),
      ...statuses.map(([status, rows]) => new Option(`${STATUS_NAMES[status] ?? status} (${number(rows)})`, status)),
    );
    this.#listen();
    this.#showProgress();
    this.#showSaved();
    this.#setView("queue");
    this.#poll();
    element("grid").focus({ preventScroll: true });
  }

  // --- what is listed ------------------------------------------------------------------------------------------------

  async #open() {
    const order = this.#view === "queue" ? "queue" : element("order").value;
    const query = {
      order, status: element("status").value, ...this.#groups.chosen,
      decided: element("decided").value, search: element("search").value.trim(),
    };
    this.#clearSelection();
    this.#focus = 0;
    this.#focused = null;
    this.#list.clear();
    this.#grid.rewind();
    const opening = ++this.#openings;
    let start = 0;
    if (this.#view !== "all" && ["any", "open"].includes(query.decided)) {
      try {
        const answer = await this.#backend.images({ ...query, open: 1 }, 0, 1);
        start = answer.rows.length ? answer.start : 0;
      } catch {
        // the list says what is wrong
      }
    }
    if (opening !== this.#openings) return;
    await this.#list.open(query, start);
    if (opening !== this.#openings) return;
    this.#setFocus(start);
    this.#lookForTheEnd();
  }

  #setView(view) {
    this.#view = view;
    this.#groups.show([], "");
    for (const button of element("views").children) button.setAttribute("aria-current", String(button.dataset.view === view));
    const grouped = view === "classes" || view === "confusions";
    document.body.dataset.view = view;
    element("side").hidden = !grouped;
    element("side").classList.toggle("open", grouped && !this.#wideSide());
    element("pick").hidden = !grouped;
    const order = element("order");
    order.value = view === "queue" ? "queue" : view === "all" ? "path" : "doubtful";
    order.closest("label").hidden = view === "queue";
    this.#closeLarge();
    if (grouped) this.#showGroups();
    else this.#open();
  }

  #wideSide() {
    return matchMedia("(min-width: 52rem)").matches;
  }

  /** The classes or pairs of classes beside the grid, the first of which is listed. */
  async #showGroups() {
    const view = this.#view;
    let groups = this.#run.labels.map(([label, rows]) => ({ label, second: null, rows }));
    if (view === "confusions") {
      try {
        groups = (await this.#backend.confusions()).map(([label, second, rows]) => ({ label, second, rows }));
      } catch (error) {
        this.#alert(error.message);
        groups = [];
      }
    }
    if (view !== this.#view) return;
    this.#groups.show(groups, view === "confusions" ? "All pairs" : "All classes");
    this.#open();
  }

  #listChanged() {
    const total = this.#list.total;
    element("grid").setAttribute("aria-busy", String(total === null));
    this.#grid.setCount(total ?? 0);
    element("count").textContent = total === null ? "" : counted(total, "image", "images");
    if (total !== null && this.#focused !== null) {
      const index = this.#list.indexOf(this.#focused);
      if (index >= 0) this.#focus = index;
    }
    this.#focus = Math.max(0, Math.min(this.#focus, (total ?? 1) - 1));
    this.#focused ??= this.#list.at(this.#focus)?.number ?? null;
    this.#showNotice();
    this.#grid.refresh();
    this.#drawFocus();
  }

  #showNotice() {
    const total = this.#list.total;
    const [title, text, button] = element("notice").firstElementChild.children;
    const filtered = element("search").value || element("status").value || element("decided").value !== "any" || this.#groups.chosen.label !== null;
    let shown = true;
    button.hidden = true;
    if (this.#list.problem && total === null) {
      [title.textContent, text.textContent] = ["The images cannot be listed", `${this.#list.problem}. Trying again…`];
    } else if (total === 0 && filtered) {
      const decided = element("decided").value;
      title.textContent = decided === "open" ? "Everything here is decided" : decided === "conflict" ? "No conflicts" : "No images match";
      text.textContent = "Other filters may show more.";
      [button.textContent, button.hidden] = ["Clear the filters", false];
    } else if (total === 0) {
      [title.textContent, text.textContent] = ["No images yet", "Label some images into this folder, then reload the page."];
    } else shown = false;
    element("notice").hidden = !shown;
    element("grid").classList.toggle("empty", shown);
  }

  /** Say once that nothing doubtful is left. */
  async #lookForTheEnd() {
    if (this.#told || this.#view !== "queue" || !this.#list.total) return;
    const row = this.#list.at(this.#focus);
    if (row && this.#isOpen(row) && DOUBTED.includes(row.status)) return;
    try {
      await this.#outbox.idle();
      const query = { order: "doubtful", decided: "open" };
      const doubtful = (await this.#backend.images({ ...query, status: DOUBTED.join() }, 0, 1)).total;
      if (doubtful || this.#told) return;
      const open = (await this.#backend.images(query, 0, 1)).total;
      this.#told = true;
      element("finished").firstElementChild.textContent = open
        ? `Nothing doubtful is left. ${counted(open, "image has", "images have")} no decision yet: all of them are confident or cannot be labelled.`
        : "Finished: every image has a decision.";
      element("finished").hidden = false;
    } catch {
      // asked again after the next decision
    }
  }

  // --- decisions -----------------------------------------------------------------------------------------------------

  /** What is decided of a row: what is on its way, else what the server says. */
  #decision(row) {
    const entry = this.#outbox.pending(row.image);
    return entry ? entry.after : row.decision;
  }

  #canDecide(row) {
    return Boolean(row?.image) && !(row.status in MISSING);
  }

  /** Whether a decision is due: there is none, reviewers disagree, or one where it was drawn at random is missing. */
  #isOpen(row) {
    if (!this.#canDecide(row)) return false;
    const entry = this.#outbox.pending(row.image);
    if (entry) return !entry.after;
    return !row.decision || row.decision.conflict || Boolean(row.due);
  }

  /** Decide on rows: `action`, and the class for `label`; `accept` of a row without a label is left out. */
  #decide(rows, action, label = null) {
    const time = new Date().toISOString();
    const entries = [];
    for (const row of rows) {
      if (!this.#canDecide(row) || (action === "accept" && row.label === null)) continue;
      const before = this.#decision(row);
      const position = action === "accept" ? row.label : label;
      const shown = action === "label" && label === row.label ? "accept" : action;
      entries.push({
        row, time, before,
        after: { action: shown, label: position, reviewer: this.#run.reviewer, time, others: before?.others ?? [], conflict: false },
        decision: { number: row.number, image: row.image, action: shown, label: position, shown_by: row.shown_by, resolves: Boolean(before?.conflict) },
      });
    }
    if (!entries.length) {
      this.#say("There is nothing to decide: the image has no label or cannot be read.");
      return false;
    }
    this.#undo.push(entries.map(({ row, before, after }) => ({ row, before, after, index: this.#list.indexOf(row.number) })));
    this.#send(entries);
    const what = action === "reject" ? "None of these" : `${ACTIONS[entries[0].decision.action]}: ${this.#names[entries[0].after.label]}`;
    this.#say(entries.length === 1 ? what : action === "accept" ? `Accepted ${counted(entries.length, "label", "labels")}` : `${what} (${counted(entries.length, "image", "images")})`);
    return true;
  }

  #send(entries) {
    this.#refusal = "";
    for (const { before, after } of entries) this.#reviewed += Boolean(after) - Boolean(before);
    this.#outbox.add(entries);
    this.#grid.refresh();
    this.#drawFocus();
    this.#showProgress();
  }

  async #act(action, label = null) {
    if (this.#selection) return this.#actOnSelection(action, label);
    const row = this.#list.at(this.#focus);
    if (row && this.#decide([row], action, label)) await this.#advance(this.#focus + 1);
  }

  async #actOnSelection(action, label) {
    const [first, last] = this.#selection;
    let rows;
    try {
      rows = await this.#list.rowsBetween(first, last);
    } catch (error) {
      this.#alert(error.message);
      return;
    }
    const images = new Map(rows.map((row) => [row.image, row])); // a copy is decided with its image
    const question = `${action === "accept" ? "Accept the labels" : action === "reject" ? "Say “none of these”" : `Choose “${this.#names[label]}”`} of ${counted(images.size, "image", "images")}?`;
    if (images.size > 50 && !(await this.#confirm(question))) return;
    if (this.#decide([...images.values()], action, label)) {
      this.#clearSelection();
      await this.#advance(last + 1);
    }
  }

  #confirm(question) {
    const dialog = element("confirm");
    element("question").textContent = question;
    dialog.returnValue = "";
    dialog.showModal();
    dialog.querySelector("[value=yes]").focus();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }

  async #advance(start) {
    const open = (row) => this.#isOpen(row);
    try {
      let index = await this.#list.next(start, open);
      if (index < 0) index = await this.#list.next(0, open);
      if (index >= 0) this.#setFocus(index);
      else if (this.#list.total) this.#say("Every image of this list has a decision.", false);
    } catch {
      this.#setFocus(Math.min(start, this.#list.total - 1)); // the server is away: go on with what is here
    }
    this.#lookForTheEnd();
  }

  #undoLast() {
    const group = this.#undo.pop() ?? this.#earlier();
    if (!group) {
      this.#say("There is nothing to undo.", false);
      return;
    }
    const time = new Date().toISOString();
    this.#send(
      group.map(({ row, before, after }) => ({
        row, time, before: this.#decision(this.#list.row(row.number) ?? { ...row, decision: after }), after: before,
        decision: { number: row.number, image: row.image, action: "undo", label: null, shown_by: row.shown_by, resolves: false },
      })),
    );
    const index = this.#list.indexOf(group[0].row.number);
    this.#clearSelection();
    this.#focused = group[0].row.number;
    if (index >= 0 || !this.#list.depends) this.#setFocus(index >= 0 ? index : group[0].index);
    this.#say(group.length === 1 ? "Undone" : `Undone: ${counted(group.length, "decision", "decisions")}`, false);
  }

  /** What this reviewer decided of the current image before the page was opened. */
  #earlier() {
    const row = this.#list.at(this.#focus);
    const decision = row && this.#decision(row);
    const mine = decision?.reviewer.split(", ").includes(this.#run.reviewer);
    return mine ? [{ row, before: null, after: decision, index: this.#focus }] : undefined;
  }

  async #choose() {
    const row = this.#list.at(this.#focus);
    if (!this.#selection && !this.#canDecide(row)) return;
    const ranking = this.#selection ? [] : row.ranking.map(([position, confidence]) => [position, percent(confidence)]);
    const recent = this.#recent.filter((position) => !ranking.some(([ranked]) => ranked === position)).map((position) => [position, "recent"]);
    const position = await this.#chooser.open([...ranking, ...recent], "Choose a class");
    this.#takeFocus();
    if (position === null) return;
    this.#recent = [position, ...this.#recent.filter((other) => other !== position)].slice(0, 8);
    await this.#act("label", position);
  }

  #pickRanked(place) {
    const row = this.#list.at(this.#focus);
    if (!this.#selection && row?.ranking[place]) return this.#act("label", row.ranking[place][0]);
    this.#say(this.#selection ? "The keys 1 to 5 decide on one image." : `There is no class ${place + 1}.`, false);
    return undefined;
  }

  // --- saving, and what others do ------------------------------------------------------------------------------------

  #showSaved() {
    const count = this.#outbox.entries.length;
    const problem = this.#outbox.problem;
    const embedded = this.#backend.embedded;
    const state = problem || this.#away ? "failed" : count ? "saving" : embedded && this.#backend.unsaved ? "waiting" : "saved";
    const saved = element("saved");
    saved.dataset.state = state;
    saved.textContent = embedded ? this.#backend.state() : problem ? `${number(count)} not saved` : this.#away ? "No connection" : count ? "Saving…" : "Saved";
    saved.title = problem ? `${problem}. Trying again until it works.` : "";
    element("retry").hidden = !problem;
    element("download").hidden = !(embedded || problem);
    if (embedded) element("download").textContent = "Save decisions";
    else element("download").title = "A file of the decisions that are not saved, for `abs label merge`";
    this.#alert(problem ? `${problem.replace(/\.$/, "")}. ${counted(count, "decision is", "decisions are")} kept here and sent again.` : this.#refusal);
  }

  #alert(text) {
    const alerts = element("alerts");
    if (alerts.textContent !== text) alerts.textContent = text;
  }

  #showProgress() {
    const total = this.#run.total;
    element("reviewed").textContent = `${number(this.#reviewed)} of ${number(total)} reviewed`;
    element("bar").max = Math.max(1, total);
    element("bar").value = this.#reviewed;
  }

  #take(rows, reviewed) {
    this.#list.update(rows);
    if (reviewed !== undefined && !this.#outbox.entries.length) this.#reviewed = reviewed;
    this.#showProgress();
    if (this.#list.depends) {
      clearTimeout(this.#reloads);
      this.#reloads = setTimeout(() => this.#list.reload(), 150);
    }
    this.#grid.refresh();
    this.#drawFocus();
  }

  async #poll() {
    if (this.#backend.embedded) return;
    try {
      const { token, rows, reviewed } = await this.#backend.changes(this.#token);
      if (this.#token && rows.length) this.#take(rows, reviewed);
      this.#token = token;
      this.#setAway(false);
    } catch {
      this.#setAway(true);
    }
    setTimeout(() => this.#poll(), document.hidden ? 15000 : 3000);
  }

  #setAway(away) {
    if (away === this.#away) return;
    this.#away = away;
    this.#showSaved();
    if (away) return;
    this.#outbox.retry();
    // pictures that did not come are asked for again
    for (const cell of document.querySelectorAll(".cell.broken")) cell.classList.remove("broken");
    this.#grid.refresh();
  }

  #download() {
    const { classes, reviewer } = this.#run;
    const name = this.#backend.embedded ? this.#backend.reviewer() : reviewer;
    if (!name) {
      this.#alert("Enter your name first: decisions are kept by reviewer.");
      element("name").focus();
      return;
    }
    this.#alert("");
    const entries = this.#backend.embedded ? this.#backend.decisions() : this.#outbox.entries;
    downloadText(`${name.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[.-]+/, "")}.jsonl`, decisionLines(entries, classes, name));
    if (this.#backend.embedded) this.#backend.downloaded();
    this.#showSaved();
  }

  // --- focus and selection -------------------------------------------------------------------------------------------

  #setFocus(index) {
    if (!this.#list.total) return;
    this.#focus = Math.max(0, Math.min(index, this.#list.total - 1));
    this.#focused = this.#list.at(this.#focus)?.number ?? null;
    this.#grid.reveal(this.#focus);
    this.#grid.refresh();
    this.#drawFocus();
  }

  #move(step, extend) {
    const target = Math.max(0, Math.min(this.#focus + step, (this.#list.total ?? 1) - 1));
    if (extend) {
      this.#anchor ??= this.#focus;
      this.#select(this.#anchor, target);
    } else this.#clearSelection();
    this.#setFocus(target);
  }

  #select(from, to) {
    this.#selection = [Math.min(from, to), Math.max(from, to)];
    this.#showBatch();
  }

  #clearSelection() {
    this.#selection = this.#anchor = null;
    this.#showBatch();
  }

  #showBatch() {
    const selection = this.#selection;
    element("batch").hidden = !selection;
    element("facts").inert = Boolean(selection);
    if (selection) element("selected").textContent = `${number(selection[1] - selection[0] + 1)} selected`;
    this.#grid.refresh();
  }

  #say(text, undoable = true) {
    const toast = element("toast");
    toast.firstElementChild.textContent = text;
    toast.classList.add("shown");
    toast.classList.toggle("undoable", undoable);
    clearTimeout(this.#toasts);
    this.#toasts = setTimeout(() => toast.classList.remove("shown"), 2500);
  }

  // --- drawing -------------------------------------------------------------------------------------------------------

  #side() {
    return Math.round(this.#grid.cellWidth * Math.min(devicePixelRatio, 2)) > 300 ? 480 : 240;
  }

  #drawCell(cell, index) {
    const row = index < 0 ? undefined : this.#list.at(index);
    cell.dataset.index = String(index);
    cell.hidden = index < 0;
    const image = cell.querySelector("img");
    if (!row) {
      cell.dataset.state = "loading";
      cell.id = "";
      image.removeAttribute("src");
      delete cell.dataset.number;
      cell.removeAttribute("aria-label");
      this.#markCell(cell, index);
      return;
    }
    if (cell.dataset.number !== String(row.number)) {
      image.removeAttribute("src");
      cell.classList.remove("loaded", "broken");
    }
    cell.dataset.number = String(row.number);
    cell.id = `row-${row.number}`;
    this.#markCell(cell, index);
    drawCard(cell, row, this.#decision(row), this.#names, this.#grid.cellWidth);
    cell.classList.toggle("unsaved", Boolean(this.#outbox.pending(row.image)) && !this.#backend.embedded);
    const source = row.status in MISSING ? "" : this.#backend.thumbnail(row, this.#side());
    if (!source) cell.classList.add("broken");
    else if (this.#grid.settled && image.getAttribute("src") !== source && !cell.classList.contains("broken")) image.src = source;
  }

  #markCell(cell, index) {
    const focused = index === this.#focus;
    cell.classList.toggle("focused", focused);
    const selected = this.#selection ? index >= this.#selection[0] && index <= this.#selection[1] : false;
    cell.setAttribute("aria-selected", String(selected));
    if (focused && cell.id) element("grid").setAttribute("aria-activedescendant", cell.id);
  }

  /** The current image beside the grid, or before it. */
  #drawFocus() {
    const row = this.#list.at(this.#focus);
    const pane = element("focus");
    pane.hidden = !row || !(this.#large || this.#wide.matches);
    document.body.classList.toggle("large", this.#large && Boolean(row));
    if (pane.hidden) return;
    element("spoken").textContent = this.#large ? document.getElementById(`row-${row.number}`)?.getAttribute("aria-label") ?? "" : "";
    drawDetails(row, this.#decision(row), { names: this.#names, run: this.#run, backend: this.#backend, large: this.#large });
    for (const button of element("actions").children) {
      button.disabled = button.dataset.do === "undo" ? !(this.#undo.length || this.#earlier()) : !this.#canDecide(row) || (button.dataset.do === "accept" && row.label === null);
    }
    element("previous").disabled = this.#focus === 0;
    element("next").disabled = this.#focus >= this.#list.total - 1;
    const next = this.#list.at(this.#focus + 1);
    if (next?.image && this.#large && !this.#backend.embedded) new Image().src = this.#backend.image(next, largeSide(true));
  }

  #closeLarge() {
    if (this.#large) this.#toggleLarge();
  }

  #toggleLarge() {
    this.#large = !this.#large;
    this.#drawFocus();
    if (!this.#large) this.#grid.reveal(this.#focus);
    this.#takeFocus();
  }

  /** Put the keyboard where the current image is. */
  #takeFocus() {
    element(this.#large ? "focus" : "grid").focus({ preventScroll: true });
  }

  // --- keys, clicks --------------------------------------------------------------------------------------------------

  #keys = {
    ArrowLeft: (event) => this.#move(-1, event.shiftKey),
    ArrowRight: (event) => this.#move(1, event.shiftKey),
    ArrowUp: (event) => this.#move(this.#large ? -1 : -this.#grid.columns, event.shiftKey),
    ArrowDown: (event) => this.#move(this.#large ? 1 : this.#grid.columns, event.shiftKey),
    PageUp: (event) => this.#move(-this.#grid.pageSize, event.shiftKey),
    PageDown: (event) => this.#move(this.#grid.pageSize, event.shiftKey),
    Home: (event) => this.#move(-Infinity, event.shiftKey),
    End: (event) => this.#move(Infinity, event.shiftKey),
    Enter: () => this.#act("accept"),
    a: () => this.#act("accept"),
    x: () => this.#act("reject"),
    r: () => this.#act("reject"),
    c: () => this.#choose(),
    "/": () => this.#choose(),
    u: () => this.#undoLast(),
    n: () => this.#advance(this.#focus + 1),
    s: () => element("search").focus(),
    "?": () => element("keys").showModal(),
    "+": () => this.#resize(1),
    "=": () => this.#resize(1),
    "-": () => this.#resize(-1),
    " ": () => this.#toggleLarge(),
    Escape: () => this.#escape(),
  };

  #escape() {
    if (element("side").classList.contains("open")) element("side").classList.remove("open");
    else if (this.#selection) this.#clearSelection();
    else if (this.#large) this.#toggleLarge();
  }

  #resize(step) {
    this.#size = Math.max(0, Math.min(this.#size + step, THUMBNAILS.length - 1));
    this.#grid.setMinimum(THUMBNAILS[this.#size]);
    this.#grid.reveal(this.#focus);
  }

  #pressed(event) {
    if (event.isComposing || event.altKey || document.querySelector("dialog[open]")) return;
    const target = event.target;
    if (target.matches("input, select, textarea")) {
      if (event.key === "Escape" || (event.key === "Enter" && target.id === "search")) {
        this.#takeFocus();
        event.preventDefault();
      }
      return;
    }
    if (target.matches("button, a") && (event.key === "Enter" || event.key === " ")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (key === "a" && this.#list.total) this.#select((this.#anchor = 0), this.#list.total - 1);
      else if (key === "z") this.#undoLast();
      else return;
    } else if (/^[1-5]$/.test(key)) this.#inTurn(() => this.#pickRanked(Number(key) - 1));
    else {
      const vi = { h: "ArrowLeft", j: "ArrowDown", k: "ArrowUp", l: "ArrowRight" };
      const act = this.#keys[vi[key] ?? key];
      if (!act || (event.repeat && !/^(Arrow|Page)|^[hjkl]$/.test(event.key))) return;
      this.#inTurn(() => act(event));
    }
    event.preventDefault();
  }

  /** Keys that come while the next image is looked for act on that one. */
  #inTurn(act) {
    this.#turn = this.#turn.then(act);
  }

  #clicked(event) {
    const cell = event.target.closest(".cell");
    if (!cell || cell.dataset.index === "-1") return;
    const index = Number(cell.dataset.index);
    const button = event.target.closest("button");
    if (button) {
      this.#clearSelection();
      this.#setFocus(index);
      this.#act(button.dataset.do);
    } else if (event.shiftKey) {
      this.#anchor ??= this.#focus;
      this.#select(this.#anchor, index);
      this.#setFocus(index);
    } else {
      const again = index === this.#focus;
      this.#clearSelection();
      this.#setFocus(index);
      // without room for the image beside the grid, a tap opens it
      if (!this.#wide.matches && (again || matchMedia("(hover: none)").matches)) this.#toggleLarge();
    }
    this.#takeFocus();
  }

  #do(action) {
    if (action === "class") this.#choose();
    else if (action === "undo") this.#undoLast();
    else if (action === "clear") this.#clearSelection();
    else this.#act(action);
  }

  #listen() {
    const grid = element("grid");
    document.addEventListener("keydown", (event) => this.#pressed(event));
    grid.addEventListener("click", (event) => this.#clicked(event));
    grid.addEventListener("dblclick", (event) => event.target.closest(".thumb") && !event.target.closest("button") && !this.#large && this.#toggleLarge());
    // events of images do not bubble
    grid.addEventListener("load", (event) => event.target.closest(".cell").classList.add("loaded"), true);
    grid.addEventListener("error", (event) => event.target.closest(".cell").classList.add("broken"), true);
    for (const button of element("views").children) button.addEventListener("click", () => this.#setView(button.dataset.view));
    for (const id of ["order", "status", "decided"]) element(id).addEventListener("change", () => this.#open());
    let typing = 0;
    element("search").addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#open(), 250);
    });
    for (const box of [element("batch"), element("actions")]) {
      box.addEventListener("click", (event) => {
        const button = event.target.closest("button");
        if (button) this.#do(button.dataset.do);
        this.#takeFocus();
      });
    }
    for (const box of [element("ranking"), element("opinions")]) {
      box.addEventListener("click", (event) => {
        const button = event.target.closest("button");
        if (button?.dataset.reject) this.#act("reject");
        else if (button) this.#act("label", Number(button.dataset.position));
        this.#takeFocus();
      });
    }
    element("close").addEventListener("click", () => this.#closeLarge());
    element("enlarge").addEventListener("click", () => this.#toggleLarge());
    element("previous").addEventListener("click", () => this.#move(-1, false));
    element("next").addEventListener("click", () => this.#move(1, false));
    element("larger").addEventListener("click", () => this.#resize(1));
    element("smaller").addEventListener("click", () => this.#resize(-1));
    element("help").addEventListener("click", () => element("keys").showModal());
    element("retry").addEventListener("click", () => this.#outbox.retry());
    element("download").addEventListener("click", () => this.#download());
    element("finished").lastElementChild.addEventListener("click", () => (element("finished").hidden = true));
    element("notice").querySelector("button").addEventListener("click", () => {
      [element("search").value, element("status").value, element("decided").value] = ["", "", "any"];
      this.#setView(this.#view);
    });
    this.#wide.addEventListener("change", () => this.#drawFocus());
    addEventListener("beforeunload", (event) => {
      if (this.#outbox.entries.length || this.#backend.wouldLose?.()) event.preventDefault();
    });
    this.#list.addEventListener("change", () => this.#listChanged());
    this.#outbox.addEventListener("change", () => this.#showSaved());
    this.#outbox.addEventListener("saved", (event) => this.#take(event.detail.rows, event.detail.reviewed));
    this.#outbox.addEventListener("refused", (event) => {
      const { entry, message } = event.detail;
      this.#reviewed += Boolean(entry.before) - Boolean(entry.after);
      this.#showProgress();
      this.#refusal = `The decision on ${printable(entry.row.path)} was not taken: ${message}`;
      this.#grid.refresh();
      this.#drawFocus();
    });
  }
}

async function startPage() {
  const backend = globalThis.embeddedBackend ?? new ServerBackend();
  for (let delay = 500; ; delay = Math.min(2 * delay, 10000)) {
    try {
      const page = new ReviewPage(backend, await backend.run());
      element("alerts").textContent = "";
      page.start();
      return;
    } catch (error) {
      if (!(error instanceof BackendError)) throw error;
      element("alerts").textContent = `${error.message}. Trying again…`;
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
}

startPage();
