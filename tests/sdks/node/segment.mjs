import { Analytics } from '@segment/analytics-node'
import { anonymousId, host, order, pings, traits, userId, writeKey } from './calls.mjs'

const analytics = new Analytics({ writeKey, host, flushAt: 10, maxRetries: 6 })
analytics.on('error', (error) => console.error('error', error.code, error.reason))
analytics.identify({ userId, anonymousId, traits })
analytics.track({ userId, event: 'Order Completed', properties: order })
analytics.page({ userId, name: 'Home', properties: { path: '/' } })
analytics.screen({ userId, name: 'Start' })
analytics.group({ userId, groupId: 'acme', traits: { name: 'Acme' } })
analytics.alias({ userId, previousId: 'old-ada' })
for (const n of pings) analytics.track({ userId, event: 'Ping', properties: { n } })
await analytics.closeAndFlush({ timeout: 60_000 })
