// Trying an API from its page: the fields of the chosen operation, sending what was typed, showing what came back.
"use strict";

(() => {
  const form = document.querySelector("form[data-try-api]");
  if (!form) return;
  const part = (name) => form.querySelector(`[data-part="${name}"]`);
  const { operation, body, way, prefer } = form.elements;
  const ways = [...way.options];
  const typed = {}; // credentials, for as long as this page is shown
  let saved = ""; // the address of a file that may be saved
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
    input.value = one.value || "";
    label.htmlFor = input.id;
    label.textContent = `${one.name} (${one.in}${one.type ? `, ${one.type}` : ""}${input.required ? ", required" : ""})`;
    box.append(label, input);
    return box;
  };
  const credential = (one, number) => {
    const box = field({ name: one.name, in: "", required: true }, number);
    const [label, input] = [box.querySelector("label"), box.querySelector("input")];
    input.id = label.htmlFor = `try-credential-${number}`;
    label.textContent = one.label;
    input.type = one.is_secret ? "password" : "text";
    input.maxLength = 20000;
    input.required = false; // what comes of leaving it out can be tried
    input.setAttribute("autocapitalize", "none");
    input.value = typed[one.name] || "";
    input.addEventListener("input", () => { typed[one.name] = input.value; });
    return box;
  };
  const show_way = () => {
    part("credentials").replaceChildren(...JSON.parse(way.selectedOptions[0].dataset.asks).map(credential));
  };
  const choose = () => {
    const one = chosen(), before = way.value;
    way.replaceChildren(...one.ways.map((id) => ways.find((each) => each.value === id)));
    way.value = one.ways.includes(before) && before !== "none" ? before : one.ways[0];
    show_way();
    part("parameters").replaceChildren(...one.parameters.filter((each) => each.in !== "cookie").map(field));
    part("body-field").hidden = !one.takes;
    body.value = one.body;
  };
  operation.addEventListener("change", choose);
  way.addEventListener("change", show_way);
  choose();

  const show_file = (file, note) => {
    URL.revokeObjectURL(saved);
    saved = "";
    part("file").hidden = !file;
    if (file) {
      const bytes = Uint8Array.from(atob(file.content), (each) => each.charCodeAt(0));
      // never of the type it says: it is saved, and not shown as a page of this portal
      saved = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
      part("save").href = saved;
      part("save").download = file.name;
      note = [`The answer is a file${file.media ? `, ${file.media}` : ""}: ${bytes.length.toLocaleString("en")} bytes.`, note].filter(Boolean).join(" ");
    }
    part("note").textContent = note;
    part("note").hidden = !note;
  };
  const show = (status, word, headers, time, text, file = null, note = "") => {
    show_file(file, note);
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
    sent.given = Object.fromEntries([...part("credentials").querySelectorAll("input")].map((each) => [each.dataset.name, each.value]));
    try {
      const answer = await fetch(form.dataset.tryApi, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify(sent),
      });
      const said = await answer.json();
      if (answer.ok) {
        const mock = said.headers["x-tulle-mock"] === "true" ? ", an example" : "";
        const slash = said.status === 400 && of("path").some(([, value]) => /[/\\]/.test(value));
        const cut = said.is_cut ? "There was more of it, which is not shown." : slash ? "A slash within a parameter of the path is sent encoded, which the gateway refuses." : "";
        show(said.status, `${said.status}${mock}`, said.headers, `${said.milliseconds.toFixed(1)} ms through the gateway`, said.body, said.file, cut);
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
