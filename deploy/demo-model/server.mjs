// The demo model: enough of Ollama's HTTP API, in front of one small GGUF file, to try
// qa-fleet on a machine that has no Ollama. Not for real work: a 135M model writes poor pairs.
//
//   node server.mjs --model FILE.gguf [--name smollm2:135m] [--host 127.0.0.1] [--port 11434]
//
// What it does like Ollama: NDJSON and single answers, `format` (a JSON schema becomes a
// grammar), sampling options, done_reason, counts and durations, one request at a time with an
// unbounded queue, cancellation when the client goes away, `truncate:false` as an error.
// What it does not: pull, keep_alive (the model stays), thinking, tools, images, context shift.

import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { getLlama, LlamaCompletion, LlamaLogLevel } from "node-llama-cpp";

const { values: args } = parseArgs({
  options: {
    model: { type: "string" },
    name: { type: "string", default: "smollm2:135m" },
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "11434" },
  },
});
if (!args.model) {
  console.error("usage: node server.mjs --model FILE.gguf [--name NAME] [--host ADDR] [--port N]");
  process.exit(2);
}

const VERSION = "0.12.11"; // the first Ollama version with everything that is spoken here
const DEFAULT_NUM_CTX = 4096;
// Half the cores: with all of them, any other work on the machine makes it 20 times slower,
// because the threads wait for each other at every step.
const threads = Math.max(1, Math.min(4, Math.floor(availableParallelism() / 2)));

const llama = await getLlama({
  gpu: false,
  build: "never", // the prebuilt CPU binary or nothing: never compile or download
  maxThreads: threads,
  logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({ modelPath: args.model });
const meta = model.fileInfo.metadata;
const architecture = meta.general.architecture;
const digest = await sha256(args.model);
const size = statSync(args.model).size;
const details = {
  parent_model: "",
  format: "gguf",
  family: architecture,
  families: [architecture],
  parameter_size: meta.general.size_label ?? "",
  quantization_level: "Q4_1",
};

// An answer with a status, for everything that the client did wrong.
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// --- The loaded model: one context, remade when num_ctx changes (Ollama calls it a reload) ---

let loaded = null; // { numCtx, context, completion }

async function load(numCtx) {
  if (loaded?.numCtx === numCtx) return 0n;
  const start = process.hrtime.bigint();
  await loaded?.context.dispose();
  loaded = null;
  const context = await model.createContext({ contextSize: numCtx, sequences: 1, threads });
  // One sequence for all requests: the constant start of a prompt stays evaluated.
  const completion = new LlamaCompletion({ contextSequence: context.getSequence() });
  loaded = { numCtx, context, completion };
  return process.hrtime.bigint() - start;
}

// --- The queue: strictly one request at a time, in order of arrival ---

let last = Promise.resolve();

function inTurn(signal, work) {
  const mine = last.then(() => {
    if (!signal.aborted) return work(); // the client left while it waited
  });
  last = mine.catch(() => {});
  return mine;
}

// --- /api/chat ---

function checkChat(request) {
  findModel(request.model);
  if (request.think) throw new Refusal(400, `"${args.name}" does not support thinking`);
  const options = request.options ?? {};
  if (options.stop != null && !Array.isArray(options.stop)) {
    throw new Refusal(500, 'option "stop" must be of type array');
  }
  return options;
}

// ChatML, the template of SmolLM2. The text of a message is tokenised without special tokens,
// so that a "<|im_end|>" inside a document stays text.
function promptTokens(messages) {
  const tokens = [];
  for (const { role, content } of messages) {
    tokens.push(...model.tokenize(`<|im_start|>${role}\n`, true));
    tokens.push(...model.tokenize(String(content ?? ""), false));
    tokens.push(...model.tokenize("<|im_end|>\n", true));
  }
  tokens.push(...model.tokenize("<|im_start|>assistant\n", true));
  return tokens;
}

async function grammarFor(format) {
  if (format == null || format === "") return undefined;
  try {
    if (format === "json") return await llama.getGrammarFor("json");
    if (typeof format === "object") return await llama.createGrammarForJsonSchema(format);
  } catch (error) {
    throw new Refusal(400, `Failed to initialize samplers: failed to parse grammar: ${error.message}`);
  }
  throw new Refusal(500, `invalid format: ${JSON.stringify(format)}`);
}

// Runs one chat. `onText` gets each new piece of text; the result holds the closing fields.
async function chat(request, options, signal, started, onText) {
  const trained = model.trainContextSize ?? DEFAULT_NUM_CTX;
  const numCtx = Math.min(options.num_ctx ?? DEFAULT_NUM_CTX, trained);
  const loadDuration = await load(numCtx);
  const messages = request.messages ?? [];
  if (messages.length === 0) return { text: "", done_reason: "load" };

  let tokens = promptTokens(messages);
  if (tokens.length >= numCtx) {
    if (request.truncate === false) {
      throw new Refusal(400, `the input length exceeds the context length: ${tokens.length} tokens, num_ctx ${numCtx}`);
    }
    // Like Ollama: the first tokens and the tail, without a word about it.
    tokens = [...tokens.slice(0, 4), ...tokens.slice(-Math.floor(numCtx / 2))];
  }

  // The context is never shifted: when it is full the answer ends with "length".
  const room = numCtx - tokens.length;
  const wanted = options.num_predict ?? -1;
  const promptStart = process.hrtime.bigint();
  let firstToken = 0n;
  let produced = 0;
  const answer = await loaded.completion.generateCompletionWithMeta(tokens, {
    signal,
    grammar: await grammarFor(request.format),
    maxTokens: wanted >= 0 ? Math.min(wanted, room) : room,
    temperature: options.temperature ?? 0.8,
    topK: options.top_k ?? 40,
    topP: options.top_p ?? 0.9,
    minP: options.min_p ?? 0,
    seed: options.seed != null && options.seed >= 0 ? options.seed : undefined,
    repeatPenalty: {
      penalty: options.repeat_penalty ?? 1.1,
      lastTokens: options.repeat_last_n ?? 64,
    },
    customStopTriggers: options.stop?.length ? options.stop : undefined,
    onToken(tokens) {
      firstToken ||= process.hrtime.bigint();
      produced += tokens.length;
    },
    onTextChunk: onText,
  });
  const end = process.hrtime.bigint();
  firstToken ||= end;
  return {
    text: answer.response,
    done_reason: answer.metadata.stopReason === "maxTokens" ? "length" : "stop",
    total_duration: Number(end - started),
    load_duration: Number(loadDuration),
    prompt_eval_count: tokens.length,
    prompt_eval_duration: Number(firstToken - promptStart),
    eval_count: produced,
    eval_duration: Number(end - firstToken),
  };
}

async function handleChat(request, response) {
  const started = process.hrtime.bigint();
  const options = checkChat(request);
  const gone = new AbortController();
  response.on("close", () => {
    if (!response.writableEnded) gone.abort();
  });
  const stream = request.stream !== false;
  const line = (content, rest) => ({
    model: args.name,
    created_at: new Date().toISOString(),
    message: { role: "assistant", content },
    ...rest,
  });
  const write = (object) => {
    // As with Ollama, the status goes out with the first piece of text, not before.
    if (!response.headersSent) response.writeHead(200, { "content-type": "application/x-ndjson" });
    response.write(JSON.stringify(object) + "\n");
  };
  try {
    const result = await inTurn(gone.signal, () =>
      chat(request, options, gone.signal, started, stream ? (text) => write(line(text, { done: false })) : undefined),
    );
    if (!result) return; // cancelled while queued: nobody is listening
    const { text, ...rest } = result;
    if (stream) {
      write(line("", { done: true, ...rest }));
      response.end();
    } else {
      sendJson(response, 200, line(text, { done: true, ...rest }));
    }
  } catch (error) {
    if (gone.signal.aborted) return;
    if (!response.headersSent) throw error;
    response.end(JSON.stringify({ error: error.message }) + "\n"); // mid-stream: the status is long gone
  }
}

// --- The small routes ---

function findModel(name) {
  const full = typeof name === "string" && name !== "" && !name.includes(":") ? `${name}:latest` : name;
  if (full !== args.name) throw new Refusal(404, `model '${name ?? ""}' not found`);
}

const loadedAt = new Date().toISOString();
const entry = { name: args.name, model: args.name, modified_at: loadedAt, size, digest, details };

function show() {
  return {
    license: meta.general.license ?? "",
    details,
    model_info: {
      "general.architecture": architecture,
      [`${architecture}.context_length`]: model.trainContextSize,
    },
    capabilities: ["completion"],
    modified_at: loadedAt,
  };
}

function running() {
  if (!loaded) return [];
  return [{ ...entry, expires_at: "9999-12-31T00:00:00Z", size_vram: 0, context_length: loaded.numCtx }];
}

async function route(request, response) {
  const path = new URL(request.url, "http://localhost").pathname;
  switch (`${request.method} ${path}`) {
    case "GET /":
    case "HEAD /":
      return response.end("Ollama is running");
    case "GET /api/version":
      return sendJson(response, 200, { version: VERSION });
    case "GET /api/tags":
      return sendJson(response, 200, { models: [entry] });
    case "GET /api/ps":
      return sendJson(response, 200, { models: running() });
    case "POST /api/show": {
      const body = await readJson(request);
      findModel(body.model ?? body.name);
      return sendJson(response, 200, show());
    }
    case "POST /api/chat":
      return handleChat(await readJson(request), response);
    default:
      throw new Refusal(404, `the demo model does not speak ${request.method} ${path}`);
  }
}

function sendJson(response, status, body) {
  response.writeHead(status, { "content-type": "application/json; charset=utf-8" });
  response.end(JSON.stringify(body));
}

async function readJson(request) {
  let text = "";
  for await (const part of request.setEncoding("utf8")) text += part;
  try {
    return JSON.parse(text) ?? {};
  } catch (error) {
    throw new Refusal(400, `invalid JSON: ${error.message}`);
  }
}

async function sha256(file) {
  const hash = createHash("sha256");
  for await (const part of createReadStream(file)) hash.update(part);
  return hash.digest("hex");
}

const server = createServer((request, response) => {
  route(request, response).catch((error) => {
    if (response.headersSent || response.destroyed) return response.destroy();
    if (!error.status) console.error(error);
    sendJson(response, error.status ?? 500, { error: error.message });
  });
});
server.requestTimeout = 0; // an answer may take as long as it takes
server.on("error", (error) => {
  console.error(`demo model: ${error.message}`);
  process.exit(1);
});
server.listen(Number(args.port), args.host, () => {
  console.log(`demo model ${args.name} (demo quality only) on http://${args.host}:${server.address().port}`);
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(0));
