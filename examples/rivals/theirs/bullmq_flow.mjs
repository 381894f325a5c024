// BullMQ's flow tutorial. It needs `bullmq`, a Redis (REDIS_URL) and a worker; BENCH_NODE names the folder of node_modules.
//
//   node bullmq_flow.mjs work    and then    node bullmq_flow.mjs add
import { appendFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

const require = createRequire(join(process.env.BENCH_NODE ?? '.', 'package.json'));
const { FlowProducer, Queue, QueueEvents, Worker } = require('bullmq');

const ROOMS = 40;
const connection = { url: process.env.REDIS_URL ?? 'redis://localhost:6379/0', maxRetriesPerRequest: null };

async function work(what) {
  await setTimeout(50);
  appendFileSync('done.txt', `${what}\n`);
  return what;
}

if (process.argv[2] === 'work') {
  new Worker('steps', (job) => work(job.data.what), { connection, concurrency: 4 });
  new Worker('renovate', async (job) => {
    const painted = await job.getChildrenValues();
    return work(`renovate ${Object.keys(painted).length}`);
  }, { connection });
} else {
  const steps = new Queue('steps', { connection });
  const flows = new FlowProducer({ connection });
  const events = { steps: new QueueEvents('steps', { connection }), renovate: new QueueEvents('renovate', { connection }) };
  const children = Array.from({ length: ROOMS }, (_, room) => ({
    name: 'paint', queueName: 'steps', data: { what: `paint ${room}` }, opts: { priority: 10 },
  }));
  const inspection = await steps.add('inspect', { what: 'inspect' }, { jobId: 'inspection', delay: 3000 });
  const flow = await flows.add({ name: 'renovate', queueName: 'renovate', opts: { jobId: 'house-1' }, children });
  const leak = await steps.add('leak', { what: 'leak' }, { jobId: 'leak', priority: 1 });
  const ends = [
    leak.waitUntilFinished(events.steps), flow.job.waitUntilFinished(events.renovate), inspection.waitUntilFinished(events.steps),
  ];
  console.log('result', await Promise.all(ends));
  process.exit(0);
}
