// What every page does: copying code, the search key, and following a run until it ends.
"use strict";

for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it instead";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  });
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  event.preventDefault();
  document.getElementById("find").focus();
});

// A link to a folded part opens it.
function unfold() {
  const wanted = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (wanted) for (const part of wanted.querySelectorAll(":scope > details")) part.open = true;
}
addEventListener("hashchange", unfold);
unfold();

// On a narrow screen the areas scroll, and the pages of a repository: show the one we are in.
for (const here of document.querySelectorAll(".nav [aria-current], .tabs [aria-current]")) {
  const row = here.parentElement;
  row.scrollLeft = here.offsetLeft + here.offsetWidth / 2 - row.clientWidth / 2 - row.offsetLeft;
}

// A picture wider than its box shows first what it is about.
for (const box of document.querySelectorAll(".picture")) {
  const current = box.querySelector(".current");
  if (current && box.scrollWidth > box.clientWidth) {
    const { left, width } = current.getBoundingClientRect();
    box.scrollLeft = left - box.getBoundingClientRect().left + width / 2 - box.clientWidth / 2;
  }
}

// What goes on by itself: fetch its part of the page again and again, a little slower each time nothing answers.
for (const progress of document.querySelectorAll("[data-poll]")) {
  if (!progress.dataset.poll) continue;
  const usual = Number(progress.dataset.wait || 700);
  let wait = usual, last = "", missed = 0, known = Date.now();
  const stale = document.createElement("p");
  stale.className = "note warn";
  stale.dataset.stale = "";
  stale.setAttribute("role", "status");
  const look = async () => {
    try {
      const answer = await fetch(progress.dataset.poll, { headers: { accept: "text/html" } });
      if (!answer.ok) throw new Error(answer.status);
      const text = await answer.text();
      if (text !== last) {
        const open = [...progress.querySelectorAll("details")].map((part) => part.open);
        const box = progress.querySelector(".picture"), left = box ? box.scrollLeft : 0;
        progress.innerHTML = text;
        progress.querySelectorAll("details").forEach((part, i) => { part.open = open[i] || false; });
        if (left) progress.querySelector(".picture").scrollLeft = left;
        const told = progress.querySelector("[data-said]"), ear = document.getElementById("said");
        if (told && told.dataset.said !== ear.textContent) ear.textContent = told.dataset.said; // not each redraw
        progress.dispatchEvent(new Event("polled", { bubbles: true }));
        last = text;
      }
      wait = usual;
      missed = 0;
      known = Date.now();
      stale.remove();
      if (progress.querySelector("[data-ended]").dataset.ended === "yes") return;
    } catch {
      wait = Math.min(wait * 1.6, 10000);
      missed += 1;
      if (missed === 3) { // one that is only slow is not told of
        stale.textContent = `The mesh does not answer: what is shown here is of ${new Date(known).toLocaleTimeString()}. It is asked again and again.`;
        progress.before(stale);
      }
    }
    setTimeout(look, document.hidden ? wait * 4 : wait);
  };
  setTimeout(look, wait);
}
