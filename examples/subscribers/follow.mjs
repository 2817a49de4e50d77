// A CRM that follows Perigee on Kafka, in Node: who stands where, kept in a JSON file, right after any crash.
//
//   node follow.mjs KAFKA FILE [--once]        (needs kafkajs)
//
// The same as follow.py: read the compacted `contacts` to its end, then follow it and `stage-changes`. A change counts when its
// sequence is above the one that is known. What is stored and how far was read are written together, by renaming a file.
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { Kafka, logLevel } from 'kafkajs'

const [servers, file, once] = process.argv.slice(2)
const BEFORE = 3_600_000 // milliseconds of changes that are read before the first start

function load() {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch {
    return { people: {}, gone: {}, offsets: {}, taken: 0 }
  }
}

const state = load()

function store() {
  writeFileSync(`${file}.new`, JSON.stringify(state))
  renameSync(`${file}.new`, file)
}

function takeChange(change) {
  if (state.gone[change.contact_id]) return
  const who = `${change.contact_id} ${change.cycle}`
  const known = state.people[who]
  if (known && change.sequence <= known.sequence) return
  if (known && change.sequence !== known.sequence + 1) {
    throw new Error(`${who} is at ${known.sequence}, and what comes is ${change.sequence}: read /v1/stage-changes`)
  }
  state.people[who] = { stage: change.stage.to, sequence: change.sequence }
  state.taken += 1
}

function takeSnapshot(contact, snapshot) {
  if (!snapshot || snapshot.merged_into) {
    for (const who of Object.keys(state.people)) if (who.startsWith(`${contact} `)) delete state.people[who]
    state.gone[contact] = true
    return
  }
  delete state.gone[contact]
  for (const [cycle, { stage, sequence }] of Object.entries(snapshot.cycles ?? {})) {
    const known = state.people[`${contact} ${cycle}`]
    if (!known || sequence > known.sequence) state.people[`${contact} ${cycle}`] = { stage, sequence }
  }
}

function take(topic, message) {
  const value = message.value ? JSON.parse(message.value.toString()) : null
  if (topic === 'contacts') takeSnapshot(message.key.toString(), value)
  else if (message.headers.ce_type?.toString() === 'perigee.stage-change.v1') takeChange(value)
}

const kafka = new Kafka({ clientId: 'crm', brokers: servers.split(','), logLevel: logLevel.ERROR })

async function starts(admin, topic) {
  const recent = topic === 'stage-changes' ? await admin.fetchTopicOffsetsByTimestamp(topic, Date.now() - BEFORE) : []
  const from = new Map(recent.map(({ partition, offset }) => [partition, offset]))
  return (await admin.fetchTopicOffsets(topic)).map(({ partition, low, high }) => {
    const stored = state.offsets[`${topic}/${partition}`]
    return { topic, partition, offset: String(stored ?? from.get(partition) ?? low), high }
  })
}

async function read(topics, toTheEnd) {
  const admin = kafka.admin()
  await admin.connect()
  const places = (await Promise.all(topics.map((topic) => starts(admin, topic)))).flat()
  await admin.disconnect()
  const left = new Map(places.map((place) => [`${place.topic}/${place.partition}`, BigInt(place.high)]))
  const done = () => places.every((p) => BigInt(state.offsets[`${p.topic}/${p.partition}`] ?? p.offset) >= left.get(`${p.topic}/${p.partition}`))
  if (toTheEnd && done()) return
  // Nothing is committed to the group: where to begin is in the file.
  const consumer = kafka.consumer({ groupId: `crm-${process.pid}-${topics.length}` })
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true })
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
    consumer
      .run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        eachBatch: async ({ batch }) => {
          const place = `${batch.topic}/${batch.partition}`
          for (const message of batch.messages) {
            if (BigInt(message.offset) < BigInt(state.offsets[place] ?? 0)) continue
            take(batch.topic, message)
            state.offsets[place] = String(BigInt(message.offset) + 1n)
          }
          store()
          if (toTheEnd && done()) resolve()
        },
      })
      .catch(reject)
    for (const { topic, partition, offset } of places) consumer.seek({ topic, partition, offset })
  })
  await consumer.disconnect()
}

await read(['contacts'], true)
await read(['contacts', 'stage-changes'], once === '--once')
store()
