import Analytics from '@rudderstack/rudder-sdk-node'
import { anonymousId, host, order, pings, traits, userId, writeKey } from './calls.mjs'

const Client = Analytics.default ?? Analytics
const analytics = new Client(writeKey, { dataPlaneUrl: host, flushAt: 10, flushInterval: 200, retryCount: 6 })
const sent = []
const done = () => new Promise((resolve) => { sent.push(1); resolve() })
analytics.identify({ userId, anonymousId, traits }, done)
analytics.track({ userId, event: 'Order Completed', properties: order }, done)
analytics.page({ userId, name: 'Home', properties: { path: '/' } }, done)
analytics.screen({ userId, name: 'Start' }, done)
analytics.group({ userId, groupId: 'acme', traits: { name: 'Acme' } }, done)
analytics.alias({ userId, previousId: 'old-ada' }, done)
for (const n of pings) analytics.track({ userId, event: 'Ping', properties: { n } }, done)
const end = Date.now() + 60_000
while (sent.length < 46 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 100))
process.exit(sent.length < 46 ? 1 : 0)
