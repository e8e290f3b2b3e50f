// Asking the lake's API, or the mesh's, from a page: forms with data-lake, sent with an access key of the reader's own.
//
// Pages are read without signing in and hold no cookie, so no other site can send these for the reader: what is
// sent carries a token, which a key was given for and which this tab alone remembers.
"use strict";

(() => {
  const KEPT = "tulle-lake";
  let forms = [];
  const kept = () => {
    try {
      const found = JSON.parse(sessionStorage.getItem(KEPT));
      return found && found.until * 1000 > Date.now() + 10000 ? found : null;
    } catch {
      return null;
    }
  };
  const keep = (value) => {
    if (value) sessionStorage.setItem(KEPT, JSON.stringify(value));
    else sessionStorage.removeItem(KEPT);
    forms.forEach(look);
  };
  const look = (form) => {
    const found = kept();
    for (const one of form.querySelectorAll("[data-part=signing]")) one.hidden = Boolean(found);
    for (const one of form.querySelectorAll("[data-part=signing] input")) one.required = !found;
    form.querySelector("[data-part=signed]").hidden = !found;
    form.querySelector("[data-part=who]").textContent = found ? found.key : "";
  };

  class Refused extends Error {}

  const ask = async (method, address, token, body) => {
    const answer = await fetch(address, {
      method,
      credentials: "omit",
      headers: {
        accept: "application/json",
        ...(body ? { "content-type": "application/json" } : {}),
        ...(token ? { authorization: `Bearer ${token}` } : {}),
      },
      body,
    });
    const said = await answer.text();
    let value = {};
    try { value = said ? JSON.parse(said) : {}; } catch { value = { message: said }; }
    if (answer.ok) return value;
    if (answer.status === 401 && token) keep(null);
    const { message, hint, problems = [] } = value.error || value;
    const reasons = problems.map((one) => [one.place && one.place.line ? `${one.place.file}:${one.place.line}:` : "", one.message].filter(Boolean).join(" ")).join("\n");
    throw new Refused([message || `It was refused (${answer.status}).`, reasons, hint].filter(Boolean).join("\n"));
  };

  const token = async (form) => {
    const found = kept();
    if (found) return found.token;
    const { key, secret } = form.elements;
    const given = { access_key_id: key.value.trim(), secret_access_key: secret.value.trim() };
    const made = await ask("POST", "/api/v1/auth/login", "", JSON.stringify(given));
    secret.value = "";
    keep({ token: made.token, until: made.token_expiration, key: given.access_key_id });
    return made.token;
  };

  // With data-typed numbers are numbers, and what is left empty is not said.
  const typed = (form, [name, value]) => {
    if (value === "") return [];
    return [[name, form.elements[name].type === "number" ? Number(value) : value]];
  };

  const bodyOf = (form, button) => {
    if ("bare" in button.dataset) return undefined;
    if (form.makeBody) return JSON.stringify(form.makeBody());
    if (!form.dataset.body) return button.dataset.body;
    const said = [...new FormData(form)].filter(([name]) => name !== "key" && name !== "secret");
    const filled = "typed" in form.dataset ? said.flatMap((one) => typed(form, one)) : said;
    const given = { ...JSON.parse(form.dataset.body), ...JSON.parse(button.dataset.body || "{}") };
    return JSON.stringify({ ...given, ...Object.fromEntries(filled) });
  };

  // What is told this once: the page must not be left before it is copied, so it is not loaded again.
  const show = (form, secret) => {
    const shown = form.querySelector("[data-part=shown]");
    const code = document.createElement("code");
    code.textContent = secret;
    const parts = ["Shown once: ", code];
    if (navigator.clipboard) {
      const copy = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
      copy.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(secret);
          copy.textContent = "Copied";
        } catch {
          copy.textContent = "Select it instead";
        }
      });
      parts.push(" ", copy);
    }
    shown.replaceChildren(...parts);
    shown.hidden = false;
  };

  const follow = (form, then, value) => {
    form.dispatchEvent(new Event("saved"));
    if (then === "reload") location.reload();
    else if (then === "told") form.dispatchEvent(new CustomEvent("told", { detail: value }));
    else if (then.startsWith("show:")) show(form, value[then.slice(5)]);
    else if (then === "download") location.assign(value.physical_address);
    else location.assign(then + encodeURIComponent(value.id));
  };

  const bind = (form) => {
    forms = [...forms.filter((one) => one.isConnected), form];
    form.hidden = false;
    look(form);
    form.querySelector("[data-part=sign-out]").addEventListener("click", () => keep(null));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = event.submitter || form.querySelector("button[type=submit]");
      if (button.dataset.confirm && !confirm(button.dataset.confirm)) return;
      const said = form.querySelector("[data-part=said]");
      const buttons = form.querySelectorAll("button");
      const body = bodyOf(form, button);
      said.hidden = true;
      buttons.forEach((one) => { one.disabled = true; });
      try {
        const address = form.dataset.lake + (button.dataset.path || "");
        follow(form, button.dataset.then || form.dataset.then, await ask(button.dataset.method, address, await token(form), body));
      } catch (failure) {
        said.textContent = failure instanceof Refused ? failure.message : `The mesh does not answer: ${failure.message}`;
        said.hidden = false;
        form.dispatchEvent(new Event("failed"));
      } finally {
        buttons.forEach((one) => { one.disabled = false; });
      }
    });
  };

  for (const form of document.querySelectorAll("form[data-lake]")) bind(form);
  document.addEventListener("formed", (event) => { // forms that were put into the page since
    for (const form of event.target.querySelectorAll("form[data-lake]")) bind(form);
  });
})();
