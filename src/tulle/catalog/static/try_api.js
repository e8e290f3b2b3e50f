// Trying an API from its page: the fields of the chosen operation, sending what was typed, showing what came back.
"use strict";

(() => {
  const form = document.querySelector("form[data-try-api]");
  if (!form) return;
  const part = (name) => form.querySelector(`[data-part="${name}"]`);
  const { operation, body, way, prefer } = form.elements;
  const button = form.querySelector("button[type=submit]");
  const chosen = () => JSON.parse(operation.selectedOptions[0].dataset.form);

  const field = (one, number) => {
    const box = document.createElement("div");
    const label = document.createElement("label");
    const input = document.createElement("input");
    box.className = "field";
    input.id = `try-parameter-${number}`;
    input.type = "text";
    input.maxLength = 500;
    input.required = one.required || one.in === "path";
    input.autocomplete = "off";
    input.spellcheck = false;
    input.dataset.name = one.name;
    input.dataset.in = one.in;
    label.htmlFor = input.id;
    label.textContent = `${one.name} (${one.in}${one.type ? `, ${one.type}` : ""}${input.required ? ", required" : ""})`;
    box.append(label, input);
    return box;
  };
  const choose = () => {
    const one = chosen();
    part("parameters").replaceChildren(...one.parameters.filter((each) => each.in !== "cookie").map(field));
    part("body-field").hidden = !one.takes;
    body.value = one.body;
  };
  const show_way = () => {
    for (const box of form.querySelectorAll("[data-way]")) box.hidden = !box.dataset.way.split(" ").includes(way.value);
  };
  operation.addEventListener("change", choose);
  way.addEventListener("change", show_way);
  choose();
  show_way();

  const show = (status, word, headers, time, text) => {
    part("hint").hidden = true;
    const badge = part("status");
    badge.hidden = false;
    badge.className = `badge ${!status || status >= 500 ? "bad" : status < 300 ? "ok" : "warn"}`;
    badge.textContent = word;
    part("time").textContent = time;
    part("headers").replaceChildren(...Object.entries(headers).flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const said = document.createElement("dd");
      term.textContent = name;
      said.textContent = value;
      return [term, said];
    }));
    part("box").hidden = !text;
    part("answer").textContent = text;
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    part("time").textContent = "Waiting for the answer …";
    const one = chosen();
    const inputs = [...part("parameters").querySelectorAll("input")];
    const of = (place) => inputs.filter((each) => each.dataset.in === place && each.value !== "").map((each) => [each.dataset.name, each.value]);
    const sent = {
      version: form.dataset.version, environment: form.dataset.environment, method: one.method, path: one.path,
      values: Object.fromEntries(of("path")), headers: Object.fromEntries(of("header")),
      query: of("query").map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join("&"),
      prefer: prefer.value, body: one.takes ? body.value : "", media: one.media || "", way: way.value,
    };
    if (way.value === "client") {
      sent.client_id = form.elements.client_id.value.trim();
      sent.client_secret = form.elements.client_secret.value.trim();
    } else if (way.value === "password") {
      sent.user = form.elements.user.value.trim();
      sent.password = form.elements.password.value; // as it is: blanks may be part of it
    } else if (way.value !== "none") sent.token = form.elements.token.value.trim();
    try {
      const answer = await fetch(form.dataset.tryApi, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify(sent),
      });
      const said = await answer.json();
      if (answer.ok) {
        const mock = said.headers["x-tulle-mock"] === "true" ? ", an example" : "";
        show(said.status, `${said.status}${mock}`, said.headers, `${said.milliseconds.toFixed(1)} ms through the gateway`, said.body);
      } else {
        const error = said.error || {};
        const problems = (error.problems || []).map((each) => each.message);
        show(0, "Not sent", {}, "", [error.message, ...problems, error.hint].filter(Boolean).join("\n"));
      }
    } catch (failure) {
      show(0, "Not sent", {}, "", `The portal does not answer: ${failure.message}`);
    } finally {
      button.disabled = false;
    }
  });
})();

// What became of asking for access.
(() => {
  for (const form of document.querySelectorAll("form[data-lake='/mesh/v1/contracts']")) {
    form.addEventListener("told", (event) => {
      const said = form.querySelector("[data-part=asked]");
      if (!said) return;
      const { state, id } = event.detail;
      said.textContent = state === "approved" ? `It may call from now on (${id}).` : `It is asked for and waits for an owner to decide (${id}).`;
      said.hidden = false;
    });
  }
})();
