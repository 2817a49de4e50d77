// Verifies deliveries with the official library: FILE has {headers, body} a line, SECRETS a list of which one must fit.
import { readFileSync } from 'node:fs'
import { Webhook } from 'standardwebhooks'

const [file, secrets] = process.argv.slice(2)
const hooks = JSON.parse(readFileSync(secrets, 'utf8')).map((secret) => new Webhook(secret))
const lines = readFileSync(file, 'utf8').trim().split('\n')
for (const line of lines) {
  const { headers, body } = JSON.parse(line)
  const fits = hooks.some((hook) => {
    try {
      return hook.verify(body, headers) !== undefined
    } catch {
      return false
    }
  })
  if (!fits) {
    console.error(`not verified: ${line}`)
    process.exit(1)
  }
}
console.log(JSON.stringify({ verified: lines.length }))
