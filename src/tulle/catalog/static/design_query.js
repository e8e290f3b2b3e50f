// Beside the form of a test query: one is asked as it is filled in, and others are made from data.
"use strict";

document.addEventListener("formed", (event) => {
  const run = event.target.querySelector("form[data-run]");
  if (!run) return;
  const form = event.target.querySelector("form.part");
  const made = event.target.querySelector("form[data-made]");
  const said = run.querySelector("[data-part=said]");
  const shown = run.querySelector("[data-part=answer]");
  const pretty = (value) => JSON.stringify(value, null, 2);
  const parsed = (name) => {
    const text = form.elements[name].value.trim();
    if (name === "expect" && !text) return null;
    try {
      return JSON.parse(text);
    } catch (failure) {
      form.elements[name].focus();
      throw new Error(`${name === "expect" ? "What is expected" : "What is sent"} is no JSON: ${failure.message}`);
    }
  };

  run.addEventListener("submit", (submitted) => { // before it is sent
    try {
      parsed("sent");
      parsed("expect");
    } catch (failure) {
      submitted.preventDefault();
      submitted.stopImmediatePropagation();
      said.textContent = failure.message;
      said.hidden = false;
    }
  }, { capture: true });
  run.makeBody = () => {
    const tolerance = form.elements.tolerance.value.trim();
    return { sent: parsed("sent"), expect: parsed("expect"), ...(tolerance ? { tolerance: Number(tolerance) } : {}) };
  };
  let expectation = null;
  run.addEventListener("told", ({ detail }) => {
    const { verdict } = detail;
    expectation = detail.expectation;
    const part = (name) => shown.querySelector(`[data-part="${name}"]`);
    part("verdict").textContent = verdict.passed ? "passed" : "failed";
    part("verdict").className = `badge ${verdict.passed ? "ok" : "bad"}`;
    part("why").textContent = [verdict.message, `${detail.version} answered ${verdict.status} in ${verdict.milliseconds.toFixed(1)} ms`].filter(Boolean).join(" · ");
    part("expected").textContent = form.elements.expect.value.trim() || "nothing but an answer";
    part("answered").textContent = pretty(verdict.answer);
    part("take").hidden = !expectation;
    shown.hidden = false;
    shown.focus();
  });
  run.querySelector("[data-part=take]").addEventListener("click", () => {
    form.elements.expect.value = pretty(expectation);
    form.elements.expect.focus();
  });

  if (!made) return;
  made.makeBody = () => {
    const { product, data_set, rows, seed, expect } = made.elements;
    return { data_set: data_set.value.trim(), product: product.value.trim(), rows: Number(rows.value) || 5, seed: Number(seed.value) || 1, expect: expect.checked, write: false };
  };
  made.addEventListener("told", ({ detail }) => form.dispatchEvent(new CustomEvent("made", { detail: detail.queries })));
});
