// Sharing the traffic of a service: sliders that keep the whole at 100 %, and what becomes of what was asked for.
"use strict";

(() => {
  const form = document.querySelector("form[data-traffic]");
  if (!form) return;
  const WHOLE = 10000; // hundredths of a percent
  const rows = [...form.querySelectorAll("[data-generation]")].map((row) => ({
    name: row.dataset.generation,
    slide: row.querySelector("input[type=range]"),
    number: row.querySelector("input[type=number]"),
    beside: row.querySelector("input[type=checkbox]"),
  }));
  const part = (name) => form.querySelector(`[data-part="${name}"]`);
  const partsOf = (row) => Math.min(WHOLE, Math.max(0, Math.round((Number(row.number.value) || 0) * 100)));

  const show = (row, parts) => {
    row.number.value = parts / 100;
    row.slide.value = parts / 100;
    row.slide.setAttribute("aria-valuetext", `${parts / 100} percent`);
  };
  const tell = () => {
    const sum = rows.reduce((all, row) => all + partsOf(row), 0);
    const told = part("sum");
    told.classList.toggle("wrong", sum !== WHOLE);
    told.textContent = sum === WHOLE
      ? "The shares make 100 %. A generation that runs beside answers who asks for it by its name."
      : `The shares make ${sum / 100} %, which is not 100 %.`;
  };
  // What one is given, the others give up, each as it has; what is over goes to the largest of them.
  const balance = (changed) => {
    const others = rows.filter((row) => row !== changed);
    const given = others.length ? partsOf(changed) : WHOLE;
    const rest = WHOLE - given;
    const had = others.map(partsOf);
    const all = had.reduce((sum, one) => sum + one, 0);
    const parts = all ? had.map((one) => Math.floor((one * rest) / all)) : had.map(() => 0);
    const over = rest - parts.reduce((sum, one) => sum + one, 0);
    if (others.length) parts[had.indexOf(Math.max(...had))] += over;
    show(changed, given);
    others.forEach((row, i) => show(row, parts[i]));
    tell();
  };

  for (const row of rows) {
    row.slide.hidden = false;
    show(row, partsOf(row));
    row.slide.addEventListener("input", () => {
      row.number.value = row.slide.value;
      balance(row);
    });
    row.number.addEventListener("input", () => {
      row.slide.value = row.number.value;
      tell();
    });
    row.number.addEventListener("change", () => { if (rows.length === 2) balance(row); });
  }
  part("asking").hidden = false;
  const more = form.querySelector("#with");
  if (more) {
    part("plain").hidden = true;
    part("plain").type = "button"; // Enter asks for the traffic
    more.addEventListener("change", () => {
      if (!more.value) return;
      const address = new URL(form.action);
      address.search = new URLSearchParams({ environment: form.dataset.environment, with: more.value });
      location.assign(address);
    });
  }
  tell();

  form.makeBody = () => {
    const shadow = form.elements.shadow.value;
    const before = JSON.parse(form.dataset.before);
    return {
      environment: form.dataset.environment,
      shares: rows.filter(partsOf).map((row) => ({ generation: row.name, share: partsOf(row) / WHOLE })),
      sticky: form.elements.sticky.checked,
      shadow: shadow ? { generation: shadow, share: Number(form.elements.shadow_share.value) / 100 } : null,
      preloaded: rows.filter((row) => row.beside.checked).map((row) => row.name),
      test_queries: form.elements.test_queries.value,
      note: form.elements.note.value,
      ...(before ? { before } : {}),
    };
  };

  form.addEventListener("told", (event) => {
    const value = event.detail;
    if (value.waits_for_approval) {
      location.hash = "#waiting";
      location.reload();
      return;
    }
    form.dataset.before = JSON.stringify(value.desired);
    for (const back of document.querySelectorAll("button[data-path='/rollback']")) { // from what was just asked for
      back.dataset.body = JSON.stringify({ environment: form.dataset.environment, before: value.desired });
      back.textContent = "Go back to what answered before";
    }
    part("changed").hidden = true;
    part("done").textContent = value.mesh_is_up ? "It is asked for. What answers is told above." : "It is asked for, and waits for the mesh to be up.";
    part("done").hidden = false;
  });

  // Somebody else may change it while this page is open.
  document.addEventListener("polled", (event) => {
    const told = event.target.querySelector("[data-desired]");
    if (told) part("changed").hidden = same(told.dataset.desired, form.dataset.before);
  });
  const plain = (value) => (value && typeof value === "object" && !Array.isArray(value)
    ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, plain(value[key])]))
    : Array.isArray(value) ? value.map(plain) : value);
  const same = (one, other) => JSON.stringify(plain(JSON.parse(one))) === JSON.stringify(plain(JSON.parse(other)));
})();
