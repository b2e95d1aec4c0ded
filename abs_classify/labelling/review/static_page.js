"use strict";
// The page without a server: rows and thumbnails stand in the file, decisions stay in this browser until they are saved.

class EmbeddedBackend {
  embedded = true;
  #run;
  #rows;
  #pictures;
  #key;
  // image -> its decisions, the last of which stands
  #decisions = new Map();
  /** How many decisions are in no file yet. */
  unsaved = 0;
  #kept = true;

  constructor({ run, rows, pictures, key }) {
    this.#run = run;
    this.#rows = rows;
    this.#pictures = pictures;
    this.#key = `abs-label-review:${key}`;
    this.#restore();
  }

  async run() {
    const field = element("name");
    element("reviewer").hidden = false;
    field.value = this.#stored("name") ?? this.#run.reviewer;
    field.addEventListener("input", () => this.#store("name", field.value));
    return { ...this.#run, reviewed: this.#rows.filter((row) => row.decision).length };
  }

  reviewer() {
    return element("name").value.trim();
  }

  state() {
    if (!this.#decisions.size) return "No decisions yet";
    return this.unsaved ? `${counted(this.unsaved, "decision", "decisions")} not in a file yet` : "Saved to a file";
  }

  /** Whether decisions would be lost with the page: they are in no file, and the browser keeps nothing for it. */
  wouldLose() {
    return this.unsaved > 0 && !this.#kept;
  }

  decisions() {
    const drawn = this.#drawn();
    return [...this.#decisions].map(([image, entries]) => {
      const last = entries.at(-1);
      return { ...last, decision: { ...last.decision, shown_by: drawn.has(image) ? "random" : "chosen" } };
    });
  }

  /**
   * The images that count as drawn at random: decided at their places of the queue, where at most one in twenty of
   * those before was passed over. Whoever picks the wrong ones among them says nothing of how right labels are.
   */
  #drawn() {
    const drawn = new Set();
    let [place, missing] = [0, 0];
    for (const row of this.#rows) {
      if (row.shown_by !== "random") continue;
      const decided = this.#decisions.get(row.image)?.some((entry) => entry.decision.shown_by === "random");
      if (decided && missing <= Math.floor(place / 20)) drawn.add(row.image);
      else missing++;
      place++;
    }
    return drawn;
  }

  downloaded() {
    this.unsaved = 0;
    this.#keep();
  }

  async images(query, start, count) {
    const rows = this.#sorted(this.#rows.filter((row) => this.#matches(row, query)), query.order);
    let first = start;
    if (query.open) while (first < rows.length && rows[first].decision) first++;
    const chosen = query.order !== "queue" || query.status || query.search || (query.label ?? null) !== null;
    // copies: what the page shows changes only when it is told
    const answer = rows.slice(first, first + count).map((row) => ({ ...row, ...(chosen && { shown_by: "chosen" }) }));
    return { total: rows.length, start: first, rows: answer };
  }

  async confusions() {
    const pairs = new Map();
    for (const { ranking } of this.#rows) {
      if (ranking.length < 2) continue;
      const pair = `${ranking[0][0]} ${ranking[1][0]}`;
      pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
    }
    const entries = [...pairs].map(([pair, rows]) => [...pair.split(" ").map(Number), rows]);
    return entries.sort((left, right) => right[2] - left[2]).slice(0, 200);
  }

  async decide(decisions) {
    const rows = [];
    for (const decision of decisions) {
      const row = this.#rows.find((candidate) => candidate.number === decision.number);
      const entry = { decision, row: { label: row.label, path: row.path }, time: new Date().toISOString() };
      const entries = this.#decisions.get(row.image) ?? [];
      if (decision.action === "undo") entries.pop();
      else entries.push(entry);
      if (entries.length) this.#decisions.set(row.image, entries);
      else this.#decisions.delete(row.image);
      rows.push(...this.#apply(row.image));
    }
    this.unsaved = this.#decisions.size;
    this.#keep();
    return { rows: rows.map((row) => ({ ...row })) };
  }

  thumbnail(row) {
    return this.#pictures[row.number] ?? "";
  }

  image(row) {
    return this.thumbnail(row);
  }

  #apply(image) {
    const rows = this.#rows.filter((row) => row.image === image);
    const entry = this.#decisions.get(image)?.at(-1);
    for (const row of rows) {
      row.decision = entry
        ? { action: entry.decision.action, label: entry.decision.label, reviewer: this.#run.reviewer, time: entry.time, others: [], conflict: false }
        : null;
    }
    return rows;
  }

  #matches(row, query) {
    if (query.status && !query.status.split(",").includes(row.status)) return false;
    if (query.label !== null && query.label !== undefined && row.label !== query.label) return false;
    if (query.second !== null && query.second !== undefined && row.ranking[1]?.[0] !== query.second) return false;
    if (query.search && !row.path.toLowerCase().includes(query.search.toLowerCase())) return false;
    const decided = query.decided ?? "any";
    return decided === "any" || (decided === "open" ? !row.decision : decided === "decided" && Boolean(row.decision));
  }

  #sorted(rows, order) {
    const doubt = (row) => row.confidence ?? 2;
    if (order === "doubtful") return rows.sort((left, right) => doubt(left) - doubt(right));
    if (order === "confident") return rows.sort((left, right) => (right.confidence ?? -1) - (left.confidence ?? -1));
    if (order === "path") return rows.sort((left, right) => (left.path < right.path ? -1 : 1));
    // the ids are digests: their order is as good as any other that is drawn
    if (order === "random") return rows.sort((left, right) => (left.image < right.image ? -1 : 1));
    return rows;
  }

  #keep() {
    this.#kept = this.#store("decisions", JSON.stringify({ unsaved: this.unsaved, decisions: [...this.#decisions] }));
  }

  #restore() {
    try {
      const images = new Set(this.#rows.map((row) => row.image)); // another file of the same run has others
      const { unsaved, decisions } = JSON.parse(this.#stored("decisions") ?? "{}");
      for (const [image, entries] of decisions ?? []) {
        if (!images.has(image) || !entries.length) continue;
        this.#decisions.set(image, entries);
        this.#apply(image);
      }
      this.unsaved = this.#decisions.size ? (unsaved ?? 0) : 0;
    } catch {
      // what cannot be read was not written by this page
    }
  }

  #stored(name) {
    try {
      return localStorage.getItem(`${this.#key}:${name}`);
    } catch {
      return null;
    }
  }

  #store(name, text) {
    try {
      localStorage.setItem(`${this.#key}:${name}`, text);
      return true;
    } catch {
      return false;
    }
  }
}

globalThis.embeddedBackend = new EmbeddedBackend(JSON.parse(document.getElementById("data").textContent));
