import { jitsuAnalytics } from '@jitsu/js'
import { host, order, pings, traits, userId, writeKey } from './calls.mjs'

const analytics = jitsuAnalytics({ host, writeKey: `${writeKey}:-`, fetch, echoEvents: false })
await analytics.identify(userId, traits)
await analytics.track('Order Completed', order)
await analytics.page({ name: 'Home', path: '/' })
await analytics.group('acme', { name: 'Acme' })
for (const n of pings) await analytics.track('Ping', { n })
