// The form: sends the request without leaving the page, and shows the jobs below.

import { call, Problem } from "./api.js";
import { clearFaults, showFault } from "./faults.js";
import { pushAddress } from "./history.js";
import { announceCard, fetchCard, setUpCard } from "./job.js";

/** @import { Job } from "./api.js" */

const WHOLE_NUMBERS = ["width", "height", "steps", "seed", "count"];
const DECIMALS = ["guidance_scale", "strength"];
const MODEL_DEFAULTS = ["size", "steps", "guidance_scale", "sampler", "schedule"];

/** @param {HTMLFormElement} form */
export function setUp(form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(form);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("input", () => summarize(form));
  const model = control(form, "model");
  let shownModel = selectedModel(model);
  model?.addEventListener("change", () => {
    const newModel = selectedModel(model);
    applyDefaults(form, shownModel, newModel);
    shownModel = newModel;
    summarize(form);
  });
}

/** @param {HTMLFormElement} form */
async function submit(form) {
  const button = form.querySelector("button[type=submit]");
  if (!button || button.hasAttribute("aria-disabled")) return;
  button.setAttribute("aria-disabled", "true");
  clearFaults(form);
  try {
    await requestPictures(form);
  } catch (error) {
    showFault(form, error instanceof Problem ? error : new Problem(String(error)));
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/** @param {HTMLFormElement} form */
async function requestPictures(form) {
  const body = { count: 1, ...readForm(form), ...(await uploadInitImage(form)) };
  const started = performance.now();
  const { jobs } = /** @type {{jobs: Job[]}} */ (await call("POST", form.dataset.jobs ?? "", body));
  const milliseconds = performance.now() - started;
  const pages = form.dataset.jobPages ?? "";
  const cards = await Promise.all(jobs.map((job) => fetchCard(`${pages}/${job.id}/card`)));
  cards.forEach((card, number) => jobs[number].origin === "memory" && showTime(card, milliseconds));
  showCards(cards, cards.length === 1 ? cards[0].dataset.page ?? "" : `${pages}?${new URLSearchParams(jobs.map((job) => ["id", job.id]))}`);
}

/**
 * Upload the chosen initial image, if any, and return it as a field. Uploading it twice does no harm.
 * @param {HTMLFormElement} form
 */
async function uploadInitImage(form) {
  const [file] = /** @type {HTMLInputElement} */ (form.elements.namedItem("image")).files ?? [];
  return file ? call("POST", form.dataset.initImages ?? "", file) : {};
}

/**
 * Show the cards below the form, and give the page their address.
 * @param {HTMLElement[]} cards
 * @param {string} address
 */
function showCards(cards, address) {
  const results = /** @type {HTMLElement} */ (document.getElementById("results"));
  results.classList.toggle("cards", cards.length > 1);
  results.replaceChildren(...cards);
  pushAddress(address);
  results.scrollIntoView({ behavior: "smooth", block: "nearest" });
  for (const card of cards) {
    announceCard(card);
    setUpCard(card);
  }
}

/**
 * The form as JSON, without its empty fields. Text in a field for numbers stays text, so that the server can say
 * what is wrong with it.
 * @param {HTMLFormElement} form
 */
function readForm(form) {
  const { size, csrf_token, image, ...others } = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
  const [width, height = ""] = size.split("x");
  const entries = Object.entries({ ...others, width, height }).filter(([, text]) => text);
  return Object.fromEntries(entries.map(([name, text]) => [name, toNumber(name, text)]));
}

/**
 * The text as a number if it is one and the field takes numbers, else unchanged.
 * @param {string} name
 * @param {string} text
 */
function toNumber(name, text) {
  if (WHOLE_NUMBERS.includes(name) && /^[+-]?\d{1,20}$/.test(text)) return Number(text);
  if (DECIMALS.includes(name) && /^[+-]?\d{1,20}([.,]\d{1,20})?$/.test(text)) return Number(text.replace(",", "."));
  return text;
}

/**
 * @param {HTMLElement} card
 * @param {number} milliseconds
 */
function showTime(card, milliseconds) {
  const time = card.querySelector("[data-took]");
  if (time) time.textContent = `in ${Math.max(1, Math.round(milliseconds))} ms`;
}

/**
 * Update the summary beside "Settings".
 * @param {HTMLFormElement} form
 */
function summarize(form) {
  const value = (/** @type {string} */ name) => control(form, name)?.value.trim() || "";
  const seed = value("seed") ? `seed ${value("seed")}` : "any seed";
  const count = Number(value("count")) > 1 ? ` · ${value("count")} pictures` : "";
  const summary = form.querySelector("[data-summary]");
  if (summary) summary.textContent = `${formatSize(value("size"))} · ${value("steps")} steps · ${seed}${count}`;
}

/**
 * After a change of model, offer the new model's choices, and set the fields that still had the old model's defaults
 * to the new model's.
 * @param {HTMLFormElement} form
 * @param {any} oldModel
 * @param {any} newModel
 */
function applyDefaults(form, oldModel, newModel) {
  const untouched = MODEL_DEFAULTS.filter((name) => control(form, name)?.value === defaultOf(oldModel, name));
  setOptions(control(form, "size"), newModel.form_sizes);
  setOptions(control(form, "sampler"), newModel.samplers);
  setOptions(control(form, "schedule"), newModel.schedules);
  setAdapters(form, newModel.adapters ?? []);
  showInitImage(form, newModel.image_to_image);
  showNearStarts(form, newModel.near_starts);
  for (const name of untouched) {
    const field = control(form, name);
    if (field) field.value = defaultOf(newModel, name);
  }
}

/**
 * A field's default for this model.
 * @param {any} model
 * @param {string} name
 */
function defaultOf(model, name) {
  const { width, height, ...others } = model.defaults;
  return String({ ...others, size: `${width}x${height}` }[name]);
}

/** @param {string} size */
const formatSize = (size) => size.replace("x", " × ");

/**
 * @param {HTMLInputElement | HTMLSelectElement | null} select
 * @param {string[]} names
 */
function setOptions(select, names) {
  if (!(select instanceof HTMLSelectElement)) return;
  const selected = select.value;
  select.replaceChildren(...names.map((name) => new Option(formatSize(name), name, false, name === selected)));
}

/**
 * Show the adapters to choose from; hide the field if there are none.
 * @param {HTMLFormElement} form
 * @param {string[]} names
 */
function setAdapters(form, names) {
  const select = control(form, "adapter");
  if (!(select instanceof HTMLSelectElement)) return;
  select.replaceChildren(new Option("none", ""), ...names.map((name) => new Option(name)));
  select.closest(".field")?.toggleAttribute("hidden", !names.length);
}

/**
 * Show the fields of the initial image; for a model without image to image, hide and clear them.
 * @param {HTMLFormElement} form
 * @param {boolean} imageToImage
 */
function showInitImage(form, imageToImage) {
  const [file, checkbox] = [control(form, "image"), control(form, "init_image")];
  file?.closest(".init-image")?.toggleAttribute("hidden", !imageToImage);
  if (imageToImage) return;
  if (file) file.value = "";
  if (checkbox instanceof HTMLInputElement) checkbox.checked = false;
}

/**
 * Show the memory policy "near"; for a model that always paints from noise, hide it and choose "auto" instead.
 * @param {HTMLFormElement} form
 * @param {boolean} nearStarts
 */
function showNearStarts(form, nearStarts) {
  const near = form.querySelector('input[name="memo"][value="near"]');
  near?.closest(".choice")?.toggleAttribute("hidden", !nearStarts);
  const auto = form.querySelector('input[name="memo"][value="auto"]');
  if (nearStarts || !(near instanceof HTMLInputElement) || !near.checked) return;
  if (auto instanceof HTMLInputElement) auto.checked = true;
}

/**
 * @param {HTMLFormElement} form
 * @param {string} name
 */
function control(form, name) {
  return /** @type {HTMLInputElement | HTMLSelectElement | null} */ (form.elements.namedItem(name));
}

/** @param {HTMLInputElement | HTMLSelectElement | null} model */
function selectedModel(model) {
  const option = model instanceof HTMLSelectElement ? model.selectedOptions[0] : undefined;
  return JSON.parse(option?.dataset.model ?? "{}");
}
