"use strict";
// Renders /openapi.json and lets the reader send requests. Plain DOM calls only: nothing is parsed as HTML.

const METHODS = ["get", "head", "post", "put", "patch", "delete"];
let spec = {};

function element(tag, { text, className, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter(Boolean));
  return made;
}

function resolved(schema) {
  if (!schema) return {};
  if (schema.$ref) return resolved(spec.components.schemas[schema.$ref.split("/").pop()]);
  const options = (schema.anyOf || schema.oneOf || []).filter((one) => one.type !== "null");
  return options.length ? { ...schema, ...resolved(options[0]) } : schema;
}

function typeName(schema) {
  const inner = resolved(schema);
  if (inner.enum) return inner.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (inner.type === "array") return `${typeName(inner.items)}[]`;
  return inner.title && inner.properties ? inner.title : inner.format || inner.type || "any";
}

function example(schema, depth = 0) {
  const inner = resolved(schema);
  if (inner.examples) return inner.examples[0];
  if (inner.default !== undefined) return inner.default;
  if (inner.enum) return inner.enum[0];
  if (inner.type === "array") return [];
  if (inner.type === "object" && inner.properties && depth < 4) {
    const wanted = (inner.required || []).map((name) => [name, example(inner.properties[name], depth + 1)]);
    return Object.fromEntries(wanted);
  }
  return { string: "", integer: 0, number: 0, boolean: false }[inner.type] ?? {};
}

function fields(schema, path = "", depth = 0) {
  const inner = resolved(schema);
  if (inner.type === "array") return fields(inner.items, `${path}[]`, depth);
  if (!inner.properties || depth > 3) return [];
  return Object.entries(inner.properties).flatMap(([name, property]) => {
    const place = path ? `${path}.${name}` : name;
    const required = (inner.required || []).includes(name) ? "required" : "";
    const about = property.description || resolved(property).description || "";
    return [[place, typeName(property), required, about], ...fields(property, place, depth + 1)];
  });
}

function table(rows) {
  if (!rows.length) return null;
  const cells = (row) => row.map((text, at) => element("td", {}, element(at < 2 ? "code" : "span", { text })));
  return element("table", {}, ...rows.map((row) => element("tr", {}, ...cells(row))));
}

function parameters(operation) {
  return (operation.parameters || []).map((one) => [
    one.name,
    typeName(one.schema),
    one.required ? "required" : one.in,
    one.description || "",
  ]);
}

function requestSchema(operation) {
  return operation.requestBody && operation.requestBody.content["application/json"]?.schema;
}

async function send(path, method, form, output) {
  const inputs = Object.fromEntries([...form.querySelectorAll("input")].map((one) => [one.name, one]));
  const filled = path.replace(/{(\w+)}/g, (_, name) => encodeURIComponent(inputs[name].value));
  const query = new URLSearchParams();
  const headers = {};
  const key = document.getElementById("key").value;
  if (key) headers["X-API-Key"] = key;
  for (const one of Object.values(inputs)) {
    if (one.dataset.in === "query" && one.value) query.set(one.name, one.value);
    if (one.dataset.in === "header" && one.value) headers[one.name] = one.value;
  }
  const body = form.querySelector("textarea")?.value;
  if (body) headers["Content-Type"] = "application/json";
  try {
    const answer = await fetch(query.size ? `${filled}?${query}` : filled, { method, headers, body });
    const text = await answer.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: shown as it came */ }
    output.textContent = `${answer.status} ${answer.statusText}\n\n${shown}`;
  } catch (error) {
    output.textContent = String(error);
  }
}

function tryForm(path, method, operation) {
  const output = element("pre", { text: "" });
  const schema = requestSchema(operation);
  const inputs = (operation.parameters || []).map((one) =>
    element("p", {}, element("label", { text: `${one.name} ` }, element("input", { name: one.name, "data-in": one.in }))));
  const body = schema && element("textarea", { spellcheck: "false" });
  if (body) body.value = JSON.stringify(example(schema), null, 2);
  const form = element("form", {}, ...inputs, body, element("p", {}, element("button", { text: "Send" })), output);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(path, method.toUpperCase(), form, output);
  });
  return element("details", {}, element("summary", { text: "Try it" }), form);
}

function answers(operation) {
  return Object.entries(operation.responses || {}).map(([status, answer]) => {
    const content = Object.values(answer.content || {})[0];
    const rows = status.startsWith("2") && content ? table(fields(content.schema)) : null;
    return element("div", {}, element("p", {}, element("code", { text: status }), ` ${answer.description}`), rows);
  });
}

function card(path, method, operation) {
  const schema = requestSchema(operation);
  return element(
    "details",
    { id: operation.operationId },
    element("summary", {}, element("span", { text: method, className: "method" }), element("code", { text: path }),
      element("span", { text: ` ${operation.summary || ""}`, className: "quiet" })),
    element("p", { text: operation.description || "" }),
    table(parameters(operation)),
    schema && element("h4", { text: "Body" }),
    schema && table(fields(schema)),
    element("h4", { text: "Answers" }),
    ...answers(operation),
    tryForm(path, method, operation),
  );
}

function render() {
  document.title = spec.info.title;
  document.getElementById("title").textContent = `${spec.info.title} ${spec.info.version}`;
  document.getElementById("description").textContent = spec.info.description || "";
  const groups = new Map();
  for (const [path, item] of Object.entries(spec.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      const tag = (item[method].tags || ["other"]).at(-1);
      groups.set(tag, [...(groups.get(tag) || []), card(path, method, item[method])]);
    }
  }
  const sections = [...groups].map(([tag, cards]) => element("section", {}, element("h2", { text: tag }), ...cards));
  document.getElementById("operations").replaceChildren(...sections);
}

fetch("/openapi.json")
  .then((answer) => answer.json())
  .then((loaded) => {
    spec = loaded;
    render();
  })
  .catch((error) => {
    document.getElementById("operations").textContent = `openapi.json could not be read: ${error}`;
  });
