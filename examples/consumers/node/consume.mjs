// Prints highlights and clips as JSON lines, from a quorum queue of its own that is bound to `tldr.events`.
//
// Environment: AMQP_URL, the address of the broker; CONSUMER, your name (default `acme`), with which the names
// of your queues begin. Ends with SIGTERM or SIGINT. docs/consumers.md tells why each line is as it is.

import amqp from "amqplib";

const EXCHANGE = "tldr.events";
const BINDINGS = ["highlight.confirmed.#", "highlight.revised.#", "highlight.retracted.#", "clip.ready.#"];
const PREFETCH = 20;
const RECONNECT_MS = 1000;
const REMEMBERED = 100_000;
const CONSUMER = process.env.CONSUMER ?? "acme";

// The last event ids. Yours belong into your database, in the transaction that holds the effect.
const seen = new Set();

function isNew(eventId) {
  if (typeof eventId !== "string") throw new TypeError("an event without an id");
  if (seen.has(eventId)) return false;
  seen.add(eventId);
  if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
  return true;
}

// A queue and a dead letter of our own; declaring again what stands changes nothing.
async function declare(channel) {
  const [deadExchange, name] = [`${CONSUMER}.dead`, `${CONSUMER}.highlights.v1`];
  const limits = { "x-queue-type": "quorum", "x-max-length": 100_000 };
  await channel.assertExchange(deadExchange, "fanout", { durable: true });
  await channel.assertQueue(`${CONSUMER}.dead.v1`, { durable: true, arguments: limits });
  await channel.bindQueue(`${CONSUMER}.dead.v1`, deadExchange, "");
  const limited = { ...limits, "x-delivery-limit": 20, "x-dead-letter-exchange": deadExchange };
  await channel.assertQueue(name, { durable: true, arguments: limited });
  for (const key of BINDINGS) await channel.bindQueue(name, EXCHANGE, key);
  return name;
}

// Acknowledge after the effect; what cannot be read goes to our dead letter.
function handle(channel, message) {
  let event;
  let fresh;
  try {
    event = JSON.parse(message.content.toString("utf8"));
    fresh = isNew(event.event_id);
  } catch {
    channel.reject(message, false);
    return;
  }
  const { type, headers } = message.properties;
  if (fresh) console.log(JSON.stringify({ type, traceparent: headers.traceparent ?? null, event }));
  channel.ack(message);
}

function end(status) {
  process.exitCode = status;
  connection.close();
}

// Runs after every connection, the first and all later ones.
async function setup(model) {
  const channel = await model.createChannel();
  channel.on("error", (error) => console.error(String(error)));
  await channel.prefetch(PREFETCH);
  const name = await declare(channel);
  // No message means that somebody deleted the queue.
  await channel.consume(name, (message) => (message ? handle(channel, message) : end(1)));
  console.error(`consuming ${name}`);
}

const recovery = { initialDelay: RECONNECT_MS, initialMaxRetries: 5, setup };
const connection = await amqp.connect(process.env.AMQP_URL, { heartbeat: 10, recovery });
connection.on("error", (error) => console.error(String(error)));
connection.on("disconnect", (error) => console.error(`disconnected: ${error?.message}`));
for (const each of ["SIGTERM", "SIGINT"]) process.once(each, () => end(0));
