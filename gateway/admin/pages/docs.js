// Shows /openapi.json. Everything it says becomes text of the page, never markup.
"use strict";

const METHODS = ["get", "post", "put", "delete"];

function element(tag, content, attributes) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  for (const one of [].concat(content === undefined ? [] : content)) made.append(one);
  return made;
}

// ── schemas ──────────────────────────────────────────────────────────────────────────────────

function nameOf(reference) {
  return reference.split("/").pop();
}

function linkTo(name) {
  return element("a", name, { href: "#schema-" + name });
}

// A schema in a few words: its type, links to the schemas it names, and its bounds.
function brief(schema) {
  if (!schema || Object.keys(schema).length === 0) return ["any value"];
  if (schema.$ref) return [linkTo(nameOf(schema.$ref))];
  const choices = schema.anyOf || schema.oneOf;
  if (choices) return choices.flatMap((one, index) => [...(index ? [" or "] : []), ...brief(one)]);
  if (schema.enum) return [schema.enum.map((one) => JSON.stringify(one)).join(" | ")];
  if (schema.type === "array") return ["list of ", ...brief(schema.items)];
  if (schema.type === "object" && typeof schema.additionalProperties === "object")
    return ["object of ", ...brief(schema.additionalProperties)];
  return [[].concat(schema.type || "any value").join(" or "), bounds(schema)];
}

function bounds(schema) {
  const told = [];
  if (schema.format) told.push(schema.format);
  if (schema.minimum !== undefined) told.push("from " + schema.minimum);
  if (schema.maximum !== undefined) told.push("to " + schema.maximum);
  if (schema.maxLength !== undefined) told.push("at most " + schema.maxLength + " characters");
  if (schema.pattern) told.push("like " + schema.pattern);
  return told.length ? " (" + told.join(", ") + ")" : "";
}

function members(schema) {
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties || {}).map(([name, one]) => {
    const about = one.description || "";
    const fallback = one.default === undefined ? "" : "default " + JSON.stringify(one.default);
    return row([
      element("code", name),
      element("span", brief(one)),
      required.has(name) ? "required" : element("span", fallback, { class: "faint" }),
      about,
    ]);
  });
  return rows.length ? table(["Member", "Type", "", "About"], rows) : element("p", brief(schema));
}

// ── pieces of an operation ───────────────────────────────────────────────────────────────────

function row(cells) {
  return element("tr", cells.map((cell) => element("td", cell)));
}

function table(heads, rows) {
  const head = element("tr", heads.map((one) => element("th", one, { scope: "col" })));
  return element("table", [element("thead", head), element("tbody", rows)]);
}

function json(value) {
  return element("pre", typeof value === "string" ? value : JSON.stringify(value, null, 2));
}

function parametersOf(operation) {
  if (!operation.parameters) return [];
  const rows = operation.parameters.map((one) =>
    row([
      element("code", one.name),
      one.in,
      element("span", brief(one.schema)),
      one.required ? "required" : "",
      [one.description || "", one.example === undefined ? "" : " Example: " + one.example],
    ]),
  );
  return [element("h3", "Parameters"), table(["Name", "In", "Type", "", "About"], rows)];
}

function bodyOf(operation) {
  const body = operation.requestBody;
  if (!body) return [];
  const told = [element("h3", body.required ? "Body" : "Body, may be left out")];
  for (const [media, content] of Object.entries(body.content)) {
    told.push(element("p", [element("code", media), " ", ...brief(content.schema)]));
    if (content.example !== undefined) told.push(json(content.example));
  }
  return told;
}

function answersOf(operation) {
  const rows = Object.entries(operation.responses).map(([status, answer]) => {
    const shapes = Object.entries(answer.content || {}).flatMap(([media, content]) => [
      element("code", media),
      " ",
      ...brief(content.schema),
    ]);
    return row([element("code", status), answer.description, shapes.length ? shapes : "empty"]);
  });
  return [element("h3", "Answers"), table(["Status", "When", "Body"], rows)];
}

function operationPart(path, method, operation) {
  const open = !operation.security || operation.security.length > 0;
  const head = element("summary", [
    element("span", method.toUpperCase(), { class: "method " + method }),
    element("code", path),
    " ",
    element("span", operation.summary),
  ]);
  const inside = element("div", [
    element("p", operation.description || ""),
    element("p", open ? "For whoever is logged in." : "No login.", { class: "faint" }),
    ...parametersOf(operation),
    ...bodyOf(operation),
    ...answersOf(operation),
  ], { class: "inside" });
  const part = element("details", [head, inside], { id: operation.operationId });
  part.dataset.words = [path, operation.operationId, operation.summary, operation.description || ""]
    .join(" ")
    .toLowerCase();
  return part;
}

// ── the page ─────────────────────────────────────────────────────────────────────────────────

function byTag(api) {
  const tags = new Map(api.tags.map((tag) => [tag.name, []]));
  for (const [path, item] of Object.entries(api.paths))
    for (const method of METHODS)
      if (item[method]) tags.get(item[method].tags[0]).push([path, method, item[method]]);
  return tags;
}

function schemasPart(schemas) {
  const parts = Object.entries(schemas).map(([name, schema]) => {
    const about = element("p", schema.description || "");
    const inside = element("div", [about, members(schema)], { class: "inside" });
    const summary = element("summary", element("code", name));
    const part = element("details", [summary, inside], { id: "schema-" + name });
    part.dataset.words = name.toLowerCase();
    return part;
  });
  return element("section", [element("h2", "Schemas", { id: "schemas" }), ...parts]);
}

function show(api) {
  const title = document.getElementById("title");
  title.replaceChildren(api.info.title, " ", element("small", api.info.version));
  document.title = api.info.title;
  document.getElementById("about").textContent = api.info.description || "";
  const main = document.getElementById("operations");
  const contents = document.getElementById("contents");
  main.replaceChildren();
  contents.replaceChildren();
  for (const [tag, operations] of byTag(api)) {
    const id = "tag-" + tag;
    contents.append(element("h2", element("a", tag, { href: "#" + id })));
    const parts = operations.map((one) => operationPart(...one));
    for (const [, , operation] of operations)
      contents.append(element("a", operation.summary, { href: "#" + operation.operationId }));
    main.append(element("section", [element("h2", tag, { id }), ...parts]));
  }
  contents.append(element("h2", element("a", "Schemas", { href: "#schemas" })));
  main.append(schemasPart(api.components.schemas));
  document.getElementById("search").addEventListener("input", find);
  window.addEventListener("hashchange", openNamed);
  openNamed();
}

// What the address names is opened.
function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) named.open = true;
  if (named) named.scrollIntoView();
}

function find(event) {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const part of document.querySelectorAll("main details"))
    part.hidden = !words.every((word) => part.dataset.words.includes(word));
  for (const section of document.querySelectorAll("main section"))
    section.hidden = !section.querySelector("details:not([hidden])");
}

fetch("/openapi.json")
  .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(answer.status))))
  .then(show)
  .catch((error) => {
    document.getElementById("operations").textContent = "The document cannot be read: " + error.message;
  });
