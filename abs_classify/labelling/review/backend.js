"use strict";
// Where rows come from and decisions go to.

/** A request that failed. `retry`: whether the same request may succeed later. */
class BackendError extends Error {
  constructor(message, retry) {
    super(message);
    this.retry = retry;
  }
}

/** The server of `abs label review`; each method answers what its JSON API answers. */
class ServerBackend {
  embedded = false;

  async #json(path, options = {}) {
    let response;
    try {
      response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new BackendError("The server cannot be reached", true);
    }
    if (response.ok) return response.json();
    if (response.status === 403) {
      throw new BackendError("The server no longer knows this page: open the address it printed last", true);
    }
    const text = await response.text().catch(() => "");
    let message = text.slice(0, 300);
    try {
      message = JSON.parse(text).error ?? message;
    } catch {
      // a text is shown as it is
    }
    throw new BackendError(message || `The server answered ${response.status}`, response.status >= 500);
  }

  run() {
    return this.#json("api/run");
  }

  images(query, start, count, signal) {
    const fields = Object.entries({ ...query, start, count }).filter(([, value]) => value !== null && value !== "");
    return this.#json(`api/images?${new URLSearchParams(fields)}`, { signal });
  }

  confusions() {
    return this.#json("api/confusions");
  }

  changes(token) {
    return this.#json(`api/changes?${new URLSearchParams({ after: token })}`, { signal: AbortSignal.timeout(20000) });
  }

  decide(decisions) {
    return this.#json("api/decisions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ decisions }),
      signal: AbortSignal.timeout(60000),
    });
  }

  // with the id of the image the answer may be kept for ever
  thumbnail(row, side) {
    return `thumbnail/${row.number}?side=${side}&image=${encodeURIComponent(row.image)}`;
  }

  image(row, side) {
    return `image/${row.number}?side=${side}&image=${encodeURIComponent(row.image)}`;
  }
}

/**
 * Decisions on their way: sent in order, a group at a time, again and again while the server is away.
 * Events: `change` (entries or problem), `saved` (detail: the server's answer), `refused` (detail: {entry, message}).
 */
class Outbox extends EventTarget {
  static #GROUP = 200;
  entries = [];
  problem = "";
  #backend;
  #latest = new Map();
  #busy = false;
  #wake = () => {};
  #idle = [];

  constructor(backend) {
    super();
    this.#backend = backend;
  }

  /** entries: {decision, row, before, time}; `before` is what the row showed until then. */
  add(entries) {
    this.entries.push(...entries);
    for (const entry of entries) this.#latest.set(entry.decision.image, entry);
    this.#changed();
    if (!this.#busy) this.#send();
  }

  /** The last decision on an image that is not saved yet. */
  pending(image) {
    return this.#latest.get(image);
  }

  retry() {
    this.#wake();
  }

  /** Resolves when everything is saved. */
  idle() {
    return this.entries.length ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve();
  }

  async #send() {
    this.#busy = true;
    let delay = 500;
    let group = Outbox.#GROUP;
    while (this.entries.length) {
      const batch = this.entries.slice(0, group);
      try {
        const answer = await this.#backend.decide(batch.map((entry) => entry.decision));
        this.#drop(batch.length);
        this.problem = "";
        delay = 500;
        this.dispatchEvent(new CustomEvent("saved", { detail: answer }));
        this.#changed();
      } catch (error) {
        if (!(error instanceof BackendError) || error.retry) {
          this.problem = error instanceof BackendError ? error.message : "The server does not answer";
          this.#changed();
          await new Promise((resolve) => {
            this.#wake = resolve;
            setTimeout(resolve, delay);
          });
          delay = Math.min(2 * delay, 10000);
        } else if (batch.length > 1) {
          group = 1; // which of them is refused shows when they go alone
        } else {
          this.#drop(1);
          this.dispatchEvent(new CustomEvent("refused", { detail: { entry: batch[0], message: error.message } }));
          this.#changed();
        }
      }
    }
    this.#busy = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #drop(count) {
    for (const entry of this.entries.splice(0, count)) {
      if (this.#latest.get(entry.decision.image) === entry) this.#latest.delete(entry.decision.image);
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** The lines of a file that `abs label merge` takes. */
function decisionLines(entries, classes, reviewer) {
  const id = (position) => (position === null || position === undefined ? "" : classes[position].id);
  return entries
    .map(({ decision, row, time }) => {
      const label = decision.action === "accept" ? row.label : decision.label;
      return `${JSON.stringify({
        image: decision.image,
        action: decision.action,
        label: id(label),
        shown_by: decision.shown_by,
        reviewer,
        time,
        path: row.path,
        model_label: id(row.label),
        resolves: decision.resolves,
      })}\n`;
    })
    .join("");
}

function downloadText(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
