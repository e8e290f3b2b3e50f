// Parts of a text as forms: a look-up, a test query, an endpoint more, a description, an annotation. Their fields are
// those of the text beside them, and what is filled in changes that text.
"use strict";

for (const design of document.querySelectorAll("form[data-design]")) {
  const { text } = design.elements;
  const place = document.getElementById(design.dataset.place);
  const view = document.getElementById(design.dataset.view);
  const state = document.getElementById(design.dataset.state);
  const base = location.pathname.replace(/\/$/, "");
  let form = null, opener = "", kind = "look-up";

  const ask = (path, body) => fetch(`${base}/${kind}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", accept: path === "/form" ? "text/html" : "application/json" },
    body: JSON.stringify({ text: text.value, ...body }),
  });
  const reasons = ({ error = {} }) => [error.message, ...(error.problems || []).map((one) => one.message), error.hint].filter(Boolean).join("\n");
  const tell = (words) => {
    const told = place.querySelector("[data-part=wrong]") || place.appendChild(Object.assign(document.createElement("p"), { className: "note bad", role: "alert" }));
    told.textContent = words;
    told.hidden = false;
  };

  const close = () => {
    place.replaceChildren();
    form = null;
    (view.querySelector(opener) || design.querySelector(opener))?.focus();
  };
  const told = () => ({
    endpoint: Number(form.dataset.endpoint), number: Number(form.dataset.number), digest: form.dataset.digest,
    ...(form.dataset.of ? { of: form.dataset.of } : {}),
  });
  const filled = () => ({
    texts: Object.fromEntries([...form.elements].filter((one) => one.name).map((one) => [one.name, one.value])),
    pairs: Object.fromEntries([...form.querySelectorAll("[data-pairs]")].map((list) => [list.dataset.pairs,
      [...list.querySelectorAll("li")].map((line) => [...line.querySelectorAll("input, select")].map((one) => one.value))])),
  });
  const changed = (value) => {
    design.dispatchEvent(new CustomEvent("retext", { detail: value }));
    state.textContent = "The text is changed, and not saved yet.";
    close();
  };
  const fieldOf = (name) => form.elements[name] || form.querySelector(`[data-pairs="${CSS.escape(name)}"] input`) || form.querySelector(`[data-pairs="${CSS.escape(name)}"] [data-more]`);
  const mark = (problems) => {
    for (const one of form.querySelectorAll("[aria-invalid]")) {
      one.removeAttribute("aria-invalid");
      one.removeAttribute("aria-describedby");
    }
    const rest = [];
    for (const one of form.querySelectorAll("[data-wrong]")) one.hidden = true;
    for (const [name, words] of Object.entries(problems)) {
      const beside = form.querySelector(`[data-wrong="${CSS.escape(name)}"]`), field = fieldOf(name);
      if (!beside || !field) { rest.push(words); continue; }
      beside.textContent = words;
      beside.hidden = false;
      field.setAttribute("aria-invalid", "true");
      field.setAttribute("aria-describedby", beside.id);
    }
    form.querySelector("[data-part=wrong]").hidden = true;
    if (rest.length) tell(rest.join("\n"));
    form.querySelector("[aria-invalid]")?.focus();
  };
  const sent = async (path, body) => {
    const buttons = form.querySelectorAll("button");
    buttons.forEach((one) => { one.disabled = true; });
    try {
      const answer = await ask(path, body);
      const value = await answer.json();
      if (answer.ok) {
        changed(value.text);
      } else if (value.problems) {
        buttons.forEach((one) => { one.disabled = false; });
        mark(value.problems);
      } else tell(reasons(value));
    } catch (failure) {
      tell(`The mesh does not answer: ${failure.message}`);
    } finally {
      buttons.forEach((one) => { one.disabled = false; });
    }
  };

  const suggest = async () => {
    const known = new URLSearchParams({ product: form.elements.product.value.trim(), data_set: form.elements.data_set.value.trim() });
    try {
      const answer = await fetch(`${base}/suggested?${known}`, { headers: { accept: "application/json" } });
      if (!answer.ok || !form) return;
      const value = await answer.json();
      for (const [id, names] of [["data-sets", value.data_sets], ["columns", value.columns]]) {
        form.querySelector(`datalist[id$="-${id}"]`)?.replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
      }
    } catch { /* fields may be filled in without */ }
  };
  const more = (list) => {
    const { content } = list.querySelector("template");
    const line = content.firstElementChild.cloneNode(true);
    list.querySelector("ul").append(line);
    return line;
  };
  const shown = () => {
    const { source } = form.elements;
    if (!source) return;
    form.querySelector("[data-when]").hidden = source.value !== "connection";
    form.elements.version.closest(".field").hidden = source.value === "connection" && !form.elements.version.value;
  };

  const open = async (button) => {
    const { endpoint, number, form: wanted = "look-up" } = button.dataset;
    const of = button.dataset.of === undefined ? undefined : document.getElementById(button.dataset.of).value;
    opener = `button[data-endpoint="${endpoint}"][data-number="${number}"]${button.dataset.form ? `[data-form="${wanted}"]` : ":not([data-form])"}`;
    kind = wanted;
    button.disabled = true;
    try {
      const answer = await ask("/form", { endpoint: Number(endpoint), number: Number(number), ...(of ? { of } : {}) });
      place.innerHTML = answer.ok ? await answer.text() : "";
      if (!answer.ok) {
        form = null;
        tell("It cannot be opened: the text is not the one that is shown here any more.");
        return;
      }
    } catch (failure) {
      tell(`The mesh does not answer: ${failure.message}`);
      return;
    } finally {
      button.disabled = false;
    }
    form = place.querySelector("form");
    for (const list of form.querySelectorAll("[data-pairs]")) if (["key", "steps"].includes(list.dataset.pairs) && !list.querySelector("li")) more(list);
    shown();
    form.querySelector("h3").focus();
    form.scrollIntoView({ block: "nearest" });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      sent("", { ...told(), ...filled() });
    });
    form.addEventListener("change", (event) => {
      if (event.target.name === "source") shown();
      if (["product", "data_set"].includes(event.target.name)) suggest();
    });
    form.addEventListener("click", (event) => {
      const hit = event.target.closest("button");
      if (!hit) return;
      const list = hit.closest("[data-pairs]");
      if ("more" in hit.dataset) more(list).querySelector("input").focus();
      if ("less" in hit.dataset) {
        hit.closest("li").remove();
        list.querySelector("[data-more]").focus();
      }
      if (hit.dataset.part === "leave") close();
      if (hit.dataset.part === "take-out") sent("/take-out", told());
    });
    form.addEventListener("made", async (event) => {
      const answer = await ask("/add", { ...told(), queries: event.detail });
      const value = await answer.json();
      if (answer.ok) changed(value.text);
      else tell(reasons(value));
    });
    place.dispatchEvent(new CustomEvent("formed", { bubbles: true }));
  };

  // Buttons come anew with every reading of the text.
  for (const offering of [view, design]) offering.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-endpoint]");
    if (button) open(button);
  });
  const offer = () => view.querySelectorAll("button[data-endpoint]").forEach((one) => { one.hidden = false; });
  new MutationObserver(offer).observe(view, { childList: true });
  offer();
}
