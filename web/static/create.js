// The form: sends a request without leaving the page and shows its job below.

import { moveTo } from "./address.js";
import { call, Problem } from "./api.js";
import { clearFaults, showFault } from "./faults.js";
import { announce, enliven, fetchCard } from "./job.js";

/** @import { Job } from "./api.js" */

const JOBS = "/api/v1/jobs";
const INIT_IMAGES = "/api/v1/init-images";
const WHOLE = ["width", "height", "steps", "seed", "count"];
const DECIMAL = ["guidance_scale", "strength"];
const DEFAULTS = ["size", "steps", "guidance_scale", "sampler", "schedule"];

/** @param {HTMLFormElement} form */
export function setUp(form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(form);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("input", () => sumUp(form));
  const model = control(form, "model");
  let before = chosen(model);
  model?.addEventListener("change", () => {
    adopt(form, before, (before = chosen(model)));
    sumUp(form);
  });
}

/** @param {HTMLFormElement} form */
async function submit(form) {
  const button = form.querySelector("button[type=submit]");
  if (!button || button.hasAttribute("aria-disabled")) return;
  button.setAttribute("aria-disabled", "true");
  clearFaults(form);
  try {
    await ask(form);
  } catch (error) {
    showFault(form, error instanceof Problem ? error : new Problem(String(error)));
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/** @param {HTMLFormElement} form */
async function ask(form) {
  const wanted = { count: 1, ...body(form), ...(await uploaded(form)) };
  const begun = performance.now();
  const { jobs } = /** @type {{jobs: Job[]}} */ (await call("POST", JOBS, wanted));
  const took = performance.now() - begun;
  const cards = await Promise.all(jobs.map((job) => fetchCard(`/jobs/${job.id}/card`)));
  cards.forEach((card, number) => jobs[number].origin === "memory" && tellTime(card, took));
  show(cards, cards.length === 1 ? cards[0].dataset.page ?? "" : `/jobs?${new URLSearchParams(jobs.map((job) => ["id", job.id]))}`);
}

/**
 * The picture to start from that was chosen, if any, as a field; sending it twice does no harm.
 * @param {HTMLFormElement} form
 */
async function uploaded(form) {
  const [file] = /** @type {HTMLInputElement} */ (form.elements.namedItem("image")).files ?? [];
  return file ? call("POST", INIT_IMAGES, file) : {};
}

/**
 * Put the cards below the form, at an address of their own.
 * @param {HTMLElement[]} cards
 * @param {string} address
 */
function show(cards, address) {
  const stage = /** @type {HTMLElement} */ (document.getElementById("stage"));
  stage.classList.toggle("cards", cards.length > 1);
  stage.replaceChildren(...cards);
  moveTo(address);
  stage.scrollIntoView({ behavior: "smooth", block: "nearest" });
  for (const card of cards) {
    announce(card);
    enliven(card);
  }
}

/**
 * The form as JSON: empty fields left out, numbers as numbers; what is no number goes as it was typed, so that
 * the answer can say what is wrong with it.
 * @param {HTMLFormElement} form
 */
function body(form) {
  const { size, csrf_token, image, ...others } = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
  const [width, height = ""] = size.split("x");
  const typed = Object.entries({ ...others, width, height });
  return Object.fromEntries(typed.filter(([, text]) => text).map(([name, text]) => [name, asNumber(name, text)]));
}

/**
 * @param {string} name
 * @param {string} text
 */
function asNumber(name, text) {
  if (WHOLE.includes(name) && /^[+-]?\d{1,20}$/.test(text)) return Number(text);
  if (DECIMAL.includes(name) && /^[+-]?\d{1,20}([.,]\d{1,20})?$/.test(text)) return Number(text.replace(",", "."));
  return text;
}

/**
 * @param {HTMLElement} card
 * @param {number} milliseconds
 */
function tellTime(card, milliseconds) {
  const took = card.querySelector("[data-took]");
  if (took) took.textContent = `in ${Math.max(1, Math.round(milliseconds))} ms`;
}

/**
 * The line beside "Settings".
 * @param {HTMLFormElement} form
 */
function sumUp(form) {
  const value = (/** @type {string} */ name) => control(form, name)?.value.trim() || "";
  const seed = value("seed") ? `seed ${value("seed")}` : "any seed";
  const many = Number(value("count")) > 1 ? ` · ${value("count")} pictures` : "";
  const line = form.querySelector("[data-now]");
  if (line) line.textContent = `${asSize(value("size"))} · ${value("steps")} steps · ${seed}${many}`;
}

/**
 * Another model was chosen: fields that stood at the old one's defaults take the new one's.
 * @param {HTMLFormElement} form
 * @param {any} before
 * @param {any} after
 */
function adopt(form, before, after) {
  const untouched = DEFAULTS.filter((name) => control(form, name)?.value === standard(before, name));
  offer(control(form, "size"), after.offered);
  offer(control(form, "sampler"), after.samplers);
  offer(control(form, "schedule"), after.schedules);
  offerAdapters(form, after.adapters ?? []);
  offerInitImage(form, after.image_to_image);
  for (const name of untouched) {
    const field = control(form, name);
    if (field) field.value = standard(after, name);
  }
}

/**
 * A field's default for this model.
 * @param {any} model
 * @param {string} name
 */
function standard(model, name) {
  const { width, height, ...others } = model.defaults;
  return String({ ...others, size: `${width}x${height}` }[name]);
}

/** @param {string} size */
const asSize = (size) => size.replace("x", " × ");

/**
 * @param {HTMLInputElement | HTMLSelectElement | null} select
 * @param {string[]} names
 */
function offer(select, names) {
  if (!(select instanceof HTMLSelectElement)) return;
  const held = select.value;
  select.replaceChildren(...names.map((name) => new Option(asSize(name), name, false, name === held)));
}

/**
 * The field is hidden where there are none.
 * @param {HTMLFormElement} form
 * @param {string[]} names
 */
function offerAdapters(form, names) {
  const select = control(form, "adapter");
  if (!(select instanceof HTMLSelectElement)) return;
  select.replaceChildren(new Option("none", ""), ...names.map((name) => new Option(name)));
  select.closest(".field")?.toggleAttribute("hidden", !names.length);
}

/**
 * Where a model imageToImage from nothing, the field is hidden and nothing stays chosen in it.
 * @param {HTMLFormElement} form
 * @param {boolean} imageToImage
 */
function offerInitImage(form, imageToImage) {
  const [image, kept] = [control(form, "image"), control(form, "init_image")];
  image?.closest(".init-image")?.toggleAttribute("hidden", !imageToImage);
  if (imageToImage) return;
  if (image) image.value = "";
  if (kept instanceof HTMLInputElement) kept.checked = false;
}

/**
 * @param {HTMLFormElement} form
 * @param {string} name
 */
function control(form, name) {
  return /** @type {HTMLInputElement | HTMLSelectElement | null} */ (form.elements.namedItem(name));
}

/** @param {HTMLInputElement | HTMLSelectElement | null} model */
function chosen(model) {
  const option = model instanceof HTMLSelectElement ? model.selectedOptions[0] : undefined;
  return JSON.parse(option?.dataset.model ?? "{}");
}
