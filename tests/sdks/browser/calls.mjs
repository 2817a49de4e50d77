// What every browser library is asked to send; tests/sdks/expected.py has the same.
const query = new URLSearchParams(location.search)
export const host = query.get('host')
export const writeKey = query.get('key')
export const userId = 'ada-é'
export const traits = { email: 'ada@x.test', plan: 'pro', nested: { n: 1 } }
export const order = {
  order_id: 'o-1', total: 19.9, currency: 'EUR', quantity: 2, note: 'zażółć 🎈', products: [{ sku: 'a' }],
}
export const pings = Array.from({ length: 40 }, (_, n) => n)
