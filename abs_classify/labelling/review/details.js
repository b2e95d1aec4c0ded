"use strict";
// The current image: its picture, the best classes as buttons, what reviewers decided, where it is.

/** The side in pixels of the picture that is fetched. */
function largeSide(large) {
  return large ? 1600 : 800;
}

function drawDetails(row, decision, { names, run, backend, large }) {
  drawPicture(row, backend, large, names);
  drawDecision(decision, names, run);
  drawRanking(row, decision, names);
  drawFacts(row, run);
}

function drawPicture(row, backend, large, names) {
  const image = element("large");
  const readable = !(row.status in MISSING);
  const unreadable = element("unreadable");
  unreadable.hidden = readable;
  unreadable.textContent = readable ? "" : `${MISSING[row.status]}${row.reason ? `: ${printable(row.reason)}` : ""}`;
  image.hidden = !readable;
  if (!readable) {
    image.removeAttribute("src");
    image.dataset.wanted = "";
    return;
  }
  image.alt = row.label === null ? "The image" : `The image, labelled ${names[row.label]}`;
  const wanted = backend.image(row, largeSide(large));
  if (image.dataset.wanted === wanted) return;
  image.dataset.wanted = wanted;
  // The thumbnail is here already; the large picture takes its place when it has come.
  image.src = backend.thumbnail(row, 240);
  clearTimeout(drawPicture.timer);
  drawPicture.timer = setTimeout(() => {
    const loading = new Image();
    loading.addEventListener("load", () => {
      if (image.dataset.wanted === wanted) image.src = wanted;
    });
    loading.src = wanted;
  }, 120);
}

function drawDecision(decision, names, run) {
  const line = element("decision");
  const who = (reviewer) => (reviewer === run.reviewer ? "you" : printable(reviewer));
  line.dataset.state = decision ? (decision.conflict ? "conflict" : decision.action) : "open";
  line.textContent = !decision
    ? "Not decided"
    : decision.conflict
      ? "Reviewers disagree"
      : decision.action === "reject"
        ? `None of these, said by ${who(decision.reviewer)}`
        : `${ACTIONS[decision.action]} by ${who(decision.reviewer)}`;
  const box = element("opinions");
  const opinions = decision && decision.others.length ? [decision, ...decision.others] : [];
  box.hidden = !opinions.length;
  box.replaceChildren(
    ...opinions.map((opinion) => {
      const button = document.createElement("button");
      button.type = "button";
      const name = document.createElement("bdi");
      name.textContent = outcome(opinion, names);
      const reviewer = document.createElement("small");
      reviewer.textContent = who(opinion.reviewer);
      button.append(name, reviewer);
      if (opinion.action === "reject") button.dataset.reject = "true";
      else button.dataset.position = String(opinion.label);
      button.title = "Decide so";
      return button;
    }),
  );
}

function drawRanking(row, decision, names) {
  const chosen = decision && !decision.conflict ? decision.label : null;
  element("ranking").replaceChildren(
    ...row.ranking.map(([position, confidence], place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.position = String(position);
      button.setAttribute("aria-pressed", String(position === chosen && decision.action !== "reject"));
      button.style.setProperty("--share", `${100 * confidence}%`);
      const key = document.createElement("kbd");
      key.textContent = String(place + 1);
      const name = document.createElement("bdi");
      name.textContent = names[position];
      const share = document.createElement("span");
      share.textContent = percent(confidence);
      button.append(key, name, share);
      return button;
    }),
  );
}

function drawFacts(row, run) {
  const facts = [
    ["Status", [STATUS_NAMES[row.status] ?? row.status, printable(row.reason)].filter(Boolean).join(": ")],
    ["Path", printable(row.path)],
  ];
  if (row.shown_by === "random") {
    const share = run.random_share ? ` (${percent(run.random_share)} of the queue are)` : "";
    facts.push(["Drawn", `at random${share}, to measure how right the labels are`]);
  }
  element("details").replaceChildren(
    ...facts.flatMap(([term, text]) => {
      const name = document.createElement("dt");
      name.textContent = term;
      const value = document.createElement("dd");
      const isolated = document.createElement("bdi");
      isolated.textContent = text;
      value.append(isolated);
      return [name, value];
    }),
  );
}
