// Designing a service: the text of its file, and beside it what it declares, read by the real parser as it is typed.
// The same for the annotations of its API.
"use strict";

for (const form of document.querySelectorAll("form[data-design]")) {
  const { text } = form.elements;
  const view = document.getElementById(form.dataset.view);
  const state = document.getElementById(form.dataset.state);
  const before = text.value;
  let timer, asked = 0;

  const read = async () => {
    const mine = ++asked;
    try {
      const answer = await fetch(form.dataset.design, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "text/html" },
        body: JSON.stringify({ text: text.value }),
      });
      const html = await answer.text();
      if (mine !== asked || !answer.ok) return;
      // Whoever is at one of its buttons stays there, as soon as they are offered.
      const { endpoint, number, form: kind } = view.contains(document.activeElement) ? document.activeElement.dataset : {};
      view.innerHTML = html;
      const same = `button[data-endpoint="${endpoint}"][data-number="${number}"]${kind ? `[data-form="${kind}"]` : ":not([data-form])"}`;
      if (number) queueMicrotask(() => view.querySelector(same)?.focus());
      const wrong = view.querySelectorAll("[role=alert] li").length;
      state.textContent = wrong ? `${wrong} problems` : "It is valid.";
    } catch { /* it is read again with the next change */ }
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(read, 400);
  };
  text.addEventListener("input", soon);
  for (const one of form.querySelectorAll("[data-part=asking]")) one.hidden = false;
  form.querySelector("[data-part=back]").addEventListener("click", () => {
    text.value = before;
    read();
  });
  form.addEventListener("retext", (event) => {
    text.value = event.detail;
    read();
  });
  form.makeBody = () => ({ text: text.value, before: form.dataset.before });
  addEventListener("beforeunload", (event) => {
    if (text.value !== before && !form.dataset.saved) event.preventDefault();
  });
  form.addEventListener("saved", () => { form.dataset.saved = "yes"; });
}
