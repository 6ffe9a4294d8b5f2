// The API's description as a page to read and to try, made from /openapi.json; nothing is loaded from elsewhere.
import { element } from "./format.js";

const MOST_SHOWN = 20000;

function resolve(spec, schema) {
  const name = schema?.$ref?.split("/").pop();
  return name ? spec.components.schemas[name] : schema;
}

function kindOf(schema = {}) {
  if (schema.anyOf) return schema.anyOf.map(kindOf).filter((kind) => kind !== "null").join(" or ");
  const range = [schema.minimum, schema.maximum].some((bound) => bound !== undefined) ? ` ${schema.minimum ?? ""} to ${schema.maximum ?? ""}` : "";
  return (schema.enum ? schema.enum.join(", ") : schema.type ?? "") + range;
}

function fieldOf(parameter, id) {
  const schema = parameter.schema ?? {};
  const about = [kindOf(schema), schema.default !== undefined ? `default ${schema.default}` : "", parameter.description ?? schema.description ?? ""];
  const label = element("label", "", element("code", "", parameter.name), element("small", "quiet", about.filter(Boolean).join("; ")));
  label.htmlFor = id;
  const input = element("input");
  Object.assign(input, { id, name: parameter.name, autocomplete: "off", spellcheck: false, required: Boolean(parameter.required) });
  input.dataset.place = parameter.in;
  return [label, input];
}

function example(spec, schema) {
  const known = resolve(spec, schema) ?? {};
  const options = known.anyOf?.map((each) => resolve(spec, each)) ?? [known];
  const found = options.find((each) => each.properties) ?? {};
  const filled = Object.entries(found.properties ?? {}).filter(([name, each]) => each.examples || found.required?.includes(name));
  return JSON.stringify(Object.fromEntries(filled.map(([name, each]) => [name, each.examples?.[0] ?? each.enum?.[0] ?? ""])), null, 2);
}

async function send(form, method, path, output, status) {
  const query = new URLSearchParams();
  let target = path;
  for (const input of form.querySelectorAll("input")) {
    if (!input.value) continue;
    if (input.dataset.place === "path") target = target.replace(`{${input.name}}`, encodeURIComponent(input.value));
    else if (input.dataset.place === "query") query.set(input.name, input.value);
  }
  const text = form.querySelector("textarea")?.value;
  const options = { method: method.toUpperCase(), headers: text ? { "Content-Type": "application/json" } : {}, body: text || undefined };
  const began = performance.now();
  const answer = await fetch(query.size ? `.${target}?${query}` : `.${target}`, options);
  const kind = answer.headers.get("content-type") ?? "";
  const body = /json|text|csv/.test(kind) ? await answer.text() : `${(await answer.blob()).size} bytes of ${kind || "nothing"}`;
  status.textContent = `${answer.status} ${answer.statusText} · ${Math.round(performance.now() - began)} ms`;
  let shown = body;
  if (kind.includes("json") && body.length < MOST_SHOWN) { try { shown = JSON.stringify(JSON.parse(body), null, 2); } catch { /* shown as it came */ } }
  output.textContent = shown.length > MOST_SHOWN ? `${shown.slice(0, MOST_SHOWN)}\n… ${shown.length - MOST_SHOWN} characters more` : shown;
  output.hidden = !shown;
}

function pathBox(spec, path, method, operation, id) {
  const form = element("form", "");
  const fields = element("div", "fields");
  (operation.parameters ?? []).filter((each) => each.in !== "header").forEach((each, place) => fields.append(...fieldOf(each, `${id}-${place}`)));
  if (fields.childElementCount) form.append(fields);
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  if (body) {
    const text = element("textarea");
    text.value = example(spec, body);
    text.id = `${id}-body`;
    text.spellcheck = false;
    const label = element("label", "", "JSON body");
    label.htmlFor = text.id;
    form.append(label, text);
  }
  const button = element("button", "", "Send");
  const status = element("p", "quiet");
  status.setAttribute("role", "status");
  const output = element("pre", "answer");
  output.hidden = true;
  output.tabIndex = 0;
  form.append(button, status, output);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try { await send(form, method, path, output, status); } catch { status.textContent = "the server does not answer"; }
    button.disabled = false;
  });
  const summary = element("summary", "", element("span", `method ${method}`, method.toUpperCase()), element("code", "", path), element("span", "quiet", operation.summary ?? ""));
  const box = element("details", "card path", summary);
  if (operation.description) box.append(element("p", "", operation.description));
  box.append(form);
  return box;
}

async function show() {
  const spec = await (await fetch("openapi.json")).json();
  document.getElementById("version").textContent = spec.info.version;
  const about = document.getElementById("about");
  for (const text of (spec.info.description ?? "").split("\n\n")) about.append(element("p", "", text.replaceAll("`", "")));
  const groups = new Map();
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "more";
      if (!groups.has(tag)) groups.set(tag, element("section", "", element("h2", "", tag === "sql" ? "SQL" : tag[0].toUpperCase() + tag.slice(1))));
      groups.get(tag).append(pathBox(spec, path, method, operation, `op${groups.size}-${groups.get(tag).childElementCount}`));
    }
  }
  document.getElementById("paths").replaceChildren(...groups.values());
}

show().catch(() => { document.getElementById("paths").replaceChildren(element("p", "notice", "The description cannot be loaded.")); });
