"use strict";
// What stands above the list: how far the review is, whether it is saved, and which sentences are listed.

const FILTERS = { all: "All", open: "Undecided", accept: "Accepted", edit: "Edited", reject: "Rejected", add: "Added", costs: "Costs" };

class StatusBar {
  #review;
  #listing;

  /** hasCosts: whether it is known what sentences cost. */
  constructor(review, listing, hasCosts) {
    this.#review = review;
    this.#listing = listing;
    const costly = review.classes.reduce((sum, { sentences }) => sum + sentences.filter(costs).length, 0);
    const buttons = Object.entries(FILTERS).map(([show, label], place) =>
      make("button", { type: "button", "data-show": show, title: `${label} (${place})` }, label, make("small", {}, show === "costs" ? number(costly) : "")));
    element("show").append(...(hasCosts ? buttons : buttons.slice(0, -1)));
  }

  /** What a digit key lists; undefined if there is no such filter. */
  filter(digit) {
    return element("show").children[digit]?.dataset.show;
  }

  show() {
    this.#showProgress();
    this.#showSaved();
    element("undo").disabled = !this.#review.canUndo;
    element("redo").disabled = !this.#review.canRedo;
    element("order").setAttribute("aria-pressed", String(this.#listing.byScore));
    for (const button of element("show").children) {
      const { show } = button.dataset;
      const count = this.#review.totals[show];
      button.setAttribute("aria-pressed", String(show === this.#listing.show));
      if (count !== undefined) button.lastElementChild.textContent = number(count);
      if (show === "add") button.hidden = !count && this.#listing.show !== "add";
    }
  }

  #showProgress() {
    const { decided, openClasses: left, totals } = this.#review;
    const total = totals.total - totals.add;
    const added = totals.add ? `, ${number(totals.add)} added` : "";
    element("count").textContent = `${number(decided)} of ${number(total)}, ${left ? counted(left, "class", "classes") : "no class"} left${added}`;
    element("bar").max = Math.max(1, total);
    element("bar").value = decided;
  }

  #showSaved() {
    const { decided, totals, saved, kept } = this.#review;
    const any = decided + totals.add > 0;
    const [state, text, title] = !any ? ["", "", ""]
      : saved ? ["saved", "Saved to a file", ""]
      : kept ? ["kept", "Kept in this browser", "A reload or a crash loses nothing. Save the decisions as a file when you are done."]
      : ["lost", "Not kept: save before you close", "This browser keeps nothing for the page: closing it loses the decisions that are in no file."];
    Object.assign(element("saved"), { textContent: text, title });
    element("saved").dataset.state = state;
    element("save").disabled = !any;
  }
}
