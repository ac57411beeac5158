"use strict";

// Of a group of buttons one is pressed.
function choose(group, then) {
  const buttons = [...group.querySelectorAll("button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const each of buttons) each.setAttribute("aria-pressed", each === button);
      then();
    });
  }
}

// A button by itself is pressed or not.
function toggle(button, then) {
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", pressed);
    then(pressed);
  });
}

const chosen = (group) => group.querySelector("[aria-pressed=true]").value;

for (const button of document.querySelectorAll("#roc-key button")) {
  const curve = document.querySelector(`#roc g[data-run="${CSS.escape(button.value)}"]`);
  toggle(button, (pressed) => curve.toggleAttribute("hidden", !pressed));
}

const runs = document.getElementById("gallery-runs");
const outcomes = document.getElementById("gallery-outcomes");

// Shows the chosen run's cards of the chosen outcome, and on each button how many there are.
function browse() {
  const outcome = chosen(outcomes);
  for (const panel of document.querySelectorAll(".cards")) panel.hidden = panel.dataset.run !== chosen(runs);
  const cards = [...document.querySelectorAll(".cards:not([hidden]) .card")];
  const belongs = (card, name) => name === "all" || card.dataset.outcome === name;
  for (const card of cards) card.hidden = !belongs(card, outcome);
  for (const button of outcomes.querySelectorAll("button")) {
    button.querySelector("span").textContent = cards.filter((card) => belongs(card, button.value)).length;
  }
  const shown = cards.filter((card) => !card.hidden).length;
  document.getElementById("gallery-shown").textContent = `${shown} of ${cards.length} masses`;
}

// A cross-validation's page has no gallery.
if (runs) {
  choose(runs, browse);
  choose(outcomes, browse);
  const tiles = document.querySelectorAll(".tile");
  for (const tile of tiles) toggle(tile, () => {});
  toggle(document.getElementById("gallery-maps"), (pressed) => {
    for (const tile of tiles) tile.setAttribute("aria-pressed", pressed);
  });
  browse();
}
