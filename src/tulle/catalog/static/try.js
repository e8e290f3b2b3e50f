// Trying a service in its page: the form's choices, sending, and showing what came back.
"use strict";

const form = document.querySelector("form[data-try]");
if (form) {
  const part = (name) => form.querySelector(`[data-part="${name}"]`);
  const { endpoint, action, body } = form.elements;
  const saved = form.querySelector("#try-query");
  const actions = [...action.options];
  const queries = [...saved.options];
  const button = form.querySelector("button[type=submit]");

  // A number stays as it is written: a long key has more digits than a browser's number.
  const read = (text) => JSON.parse(text, (key, value, context) =>
    (typeof value === "number" && JSON.rawJSON && context?.source !== undefined && String(value) !== context.source
      ? JSON.rawJSON(context.source) : value));

  const BEGUN = { predict: { features: {} }, lookup: { data: {} }, forecast: { items: [] } };
  let filled = "";
  const fill = () => {
    const query = saved.selectedOptions[0];
    const one = query ? read(query.dataset.body) : BEGUN[endpoint.selectedOptions[0].dataset.kind] || {};
    body.value = JSON.stringify(action.value.endsWith("-multi") ? { items: [one] } : one, null, 2);
    filled = body.value;
  };
  const choose = () => {
    const mine = (option) => option.dataset.endpoint === endpoint.value;
    action.replaceChildren(...actions.filter(mine));
    saved.replaceChildren(...queries.filter(mine));
    action.selectedIndex = 0;
    saved.selectedIndex = 0;
    saved.closest(".field").hidden = saved.options.length === 0;
    fill();
  };
  endpoint.addEventListener("change", choose);
  action.addEventListener("change", () => { if (body.value === filled) fill(); }); // what was typed stays
  saved.addEventListener("change", fill);
  choose();

  body.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  const tokens = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;
  const paint = (target, text) => {
    target.replaceChildren();
    if (text.length > 100000) { target.textContent = text; return; }
    let from = 0;
    for (const found of text.matchAll(tokens)) {
      target.append(text.slice(from, found.index));
      const span = document.createElement("span");
      span.className = found[1] ? (found[2] ? "k" : "s") : found[3] ? "w" : "n";
      span.textContent = found[1] || found[0];
      target.append(span, found[2] || "");
      from = found.index + found[0].length;
    }
    target.append(text.slice(from));
  };

  // What an answer tells of itself, as bars: how long its parts took, its steps, and what each feature added.
  const make = (name, attributes, ...inside) => {
    const one = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    one.append(...inside);
    return one;
  };
  const bars = (title, rows, unit) => {
    const most = Math.max(...rows.map(([, value]) => Math.abs(value)), 0);
    return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title }, make("table", { class: "parts" },
      make("caption", {}, title),
      make("tbody", {}, ...rows.map(([name, value, more]) => {
        const inner = make("i", value < 0 ? { class: "less" } : {});
        inner.style.width = `${most && value ? Math.max(1, (100 * Math.abs(value)) / most) : 0}%`;
        return make("tr", {}, make("th", { scope: "row", class: "mono small" }, name),
          make("td", {}, make("span", { class: "meter", "aria-hidden": "true" }, inner)),
          make("td", { class: "number nowrap" }, `${value > 0 && !unit ? "+" : ""}${Number(value.toPrecision(4))}${unit}`),
          make("td", { class: "small soft" }, more || ""));
      }))));
  };
  const numbers = (value) => (value && typeof value === "object" && !Array.isArray(value)
    ? Object.entries(value).filter(([, one]) => typeof one === "number") : []);
  const tell = (text) => {
    const made = [];
    let answer;
    try { answer = JSON.parse(text); } catch { answer = null; }
    if (answer && typeof answer === "object") {
      const results = answer.result ? [answer.result] : Array.isArray(answer.results) ? answer.results : [];
      results.slice(0, 10).forEach((one, i) => {
        const parts = numbers(one.explanations);
        if (parts.length) made.push(bars(results.length > 1 ? `What each feature added to answer ${i + 1}` : "What each feature added", parts, ""));
      });
      const steps = Array.isArray(answer.steps) ? answer.steps : [];
      const times = numbers(answer.timing);
      if (times.length) made.push(bars("What it took", times, " µs"));
      if (steps.length) made.push(bars("Steps", steps.map((one) => [
        String(one.name ?? one.step) + (one.item === undefined ? "" : ` [${one.item}]`), one.microseconds || 0,
        Object.entries(one).filter(([key]) => !["name", "step", "item", "microseconds"].includes(key)).map(([key, value]) => `${key} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", "),
      ]), " µs"));
    }
    part("parts").replaceChildren(...made);
  };

  const words = { 200: "OK", 400: "Bad request", 401: "Who are you?", 403: "Not allowed", 404: "Not found", 413: "Too large", 422: "No answer", 429: "Too fast", 500: "Failed", 503: "Not available", 504: "Too slow" };
  const show = (status, headers, time, text, word = words[status]) => {
    part("hint").hidden = true;
    const badge = part("status");
    badge.hidden = false;
    badge.className = `badge ${!status || status >= 500 ? "bad" : status < 300 ? "ok" : "warn"}`;
    badge.textContent = [status, word].filter(Boolean).join(" ");
    part("time").textContent = time;
    part("headers").replaceChildren(...Object.entries(headers).flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      return [term, text];
    }));
    tell(text);
    part("box").hidden = false;
    paint(part("body"), text);
  };

  // JSON is YAML: what was sent as a line of the service's file.
  const GIVEN = {
    predict: ["features", (body) => body.features], lookup: ["data", (body) => body.data], forecast: ["rows", (body) => body.items],
    query: ["parameters", (body) => body], function: ["arguments", (body) => body], compose: ["input", (body) => body],
  };
  const asQuery = (sent, status, text) => {
    const [member, given_of] = GIVEN[endpoint.selectedOptions[0].dataset.kind] || [];
    let body, answer;
    try { [body, answer] = [read(sent || "{}"), JSON.parse(text)]; } catch { body = null; }
    const given = body && member && !action.value.endsWith("-multi") ? given_of(body) : undefined;
    part("as-query").hidden = !given || typeof given !== "object";
    if (part("as-query").hidden) return;
    const query = { name: "a call that was tried", [member]: given };
    if (status !== 200 && answer && answer.errorType) query.expect = { error: answer.errorType };
    part("query").textContent = `- ${JSON.stringify(query)}`;
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return; // one at a time, by the keyboard too
    button.disabled = true;
    part("time").textContent = "Waiting for the answer …";
    const { environment, generation, key, steps, explain } = form.elements;
    const sent = {
      endpoint: endpoint.value, action: action.value, body: body.value,
      environment: environment.value, generation: generation.value, key: key.value, steps: steps.checked,
    };
    if (explain.checked && endpoint.selectedOptions[0].dataset.kind === "predict") {
      try {
        sent.body = JSON.stringify({ ...read(body.value), explanations: { enabled: true } });
      } catch { /* what is no JSON is sent as it is */ }
    }
    if (form.elements.client_id.value || form.elements.client_secret.value) {
      sent.client_id = form.elements.client_id.value.trim();
      sent.client_secret = form.elements.client_secret.value.trim();
    }
    try {
      const answer = await fetch(form.dataset.try, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify(sent),
      });
      const said = await answer.json();
      if (answer.ok) {
        show(said.status, said.headers, `${said.milliseconds.toFixed(1)} ms through the gateway${said.headers["x-tulle-generation"] ? `, by ${said.headers["x-tulle-generation"]}` : ""}`, said.body);
        asQuery(sent.body, said.status, said.body);
      } else {
        const error = said.error || {};
        show("", {}, "", [error.message, error.hint].filter(Boolean).join("\n"), "Not sent");
      }
    } catch (failure) {
      show("", {}, "", `The portal does not answer: ${failure.message}`, "Not sent");
    } finally {
      button.disabled = false;
    }
  });
}
