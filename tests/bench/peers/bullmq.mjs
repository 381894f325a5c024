// BullMQ on a Redis that keeps nothing, driven as its own documentation advises for speed.
//
//   node bullmq.mjs queue REDIS_URL COUNT COUNT_ONE   start one by one, start in bulk, drain a backlog
//   node bullmq.mjs latency REDIS_URL COUNT           idle start-to-running, from a second process
//
// Prints one JSON line. BENCH_NODE names the folder that holds node_modules.
import { fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(join(process.env.BENCH_NODE, 'package.json'));
const { Queue, Worker } = require('bullmq');
const Redis = require('ioredis');

const [mode, url, count, countOne] = process.argv.slice(2).map((word, index) => (index < 2 ? word : Number(word)));
const BULK = 500;
const CONCURRENCY = 100;
const OPTIONS = { removeOnComplete: true };
const PAYLOAD = {
  user_id: 123456, action: 'send_email', address: 'user@example.com', template: 'welcome', name: 'Jo', plan: 'free',
  lang: 'en', trace: '0123456789abcdef0123456789abcdef', amount: 12.5, at: '2026-01-01T00:00:00Z', note: 'x'.repeat(20),
};

const connect = () => new Redis(url, { maxRetriesPerRequest: null });
const now = () => Number(process.hrtime.bigint()) / 1e9;
const clientCpu = () => (({ user, system }) => (user + system) / 1e6)(process.cpuUsage());

async function redisCpu(redis) {
  const text = await redis.info('cpu');
  return ['used_cpu_user', 'used_cpu_sys'].reduce((sum, name) => sum + Number(text.match(new RegExp(`${name}:([\\d.]+)`))[1]), 0);
}

async function timed(redis, jobs, work) {
  const [client, server, began] = [clientCpu(), await redisCpu(redis), now()];
  await work();
  const seconds = now() - began;
  return [jobs / seconds, ((clientCpu() - client) / jobs) * 1e6, (((await redisCpu(redis)) - server) / jobs) * 1e6];
}

async function queueMode() {
  const redis = connect();
  const queue = new Queue('bench', { connection: connect() });
  await queue.waitUntilReady();
  const bulk = () => Array.from({ length: BULK }, () => ({ name: 'job', data: PAYLOAD, opts: OPTIONS }));
  await queue.addBulk(bulk().slice(0, 200));
  await queue.obliterate({ force: true });

  const [one] = await timed(redis, countOne, async () => {
    for (let i = 0; i < countOne; ++i) await queue.add('job', PAYLOAD, OPTIONS);
  });
  await queue.obliterate({ force: true });
  const [start, startClient, startRedis] = await timed(redis, count, async () => {
    for (let i = 0; i < count; i += BULK) await queue.addBulk(bulk());
  });

  const worker = new Worker('bench', async () => undefined, { connection: connect(), concurrency: CONCURRENCY, autorun: false });
  await worker.waitUntilReady();
  const [drain, drainClient, drainRedis] = await timed(redis, count, () => new Promise((resolve, reject) => {
    let left = count;
    worker.on('completed', () => { if (--left === 0) resolve(); });
    worker.on('error', reject);
    worker.run().catch(reject);
  }));
  const rss = process.memoryUsage().rss / 2 ** 20;
  return {
    start_one_per_s: one, start_bulk_per_s: start, start_bulk_cpu_us: startClient + startRedis,
    drain_per_s: drain, drain_cpu_us: drainClient + drainRedis, drain_redis_cpu_us: drainRedis, rss_mb: rss,
  };
}

// The worker runs here, the producer in a child, 10 ms apart; both read the same monotonic clock.
async function latencyMode() {
  const latencies = [];
  let finish;
  const finished = new Promise((resolve) => { finish = resolve; });
  const worker = new Worker('bench', async (job) => {
    latencies.push((now() - job.data.sent) * 1000);
    if (latencies.length === count) finish();
  }, { connection: connect(), concurrency: CONCURRENCY });
  await worker.waitUntilReady();
  const producer = fork(fileURLToPath(import.meta.url), ['produce', url, String(count)]);
  await finished;
  producer.kill();
  latencies.sort((a, b) => a - b);
  const at = (share) => latencies[Math.min(count - 1, Math.floor(count * share))];
  return { p50_ms: at(0.5), p99_ms: at(0.99), rss_mb: process.memoryUsage().rss / 2 ** 20 };
}

async function produceMode() {
  const queue = new Queue('bench', { connection: connect() });
  await queue.waitUntilReady();
  for (let i = 0; i < count; ++i) {
    await queue.add('job', { ...PAYLOAD, sent: now() }, OPTIONS);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
  return {};
}

const result = await { queue: queueMode, latency: latencyMode, produce: produceMode }[mode]();
if (mode !== 'produce') console.log(JSON.stringify(result));
process.exit(0);
