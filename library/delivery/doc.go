// Package delivery says what a request is that we make to a place which a user
// of the API named, a webhook's receiver or an export's target, and what comes
// back. Package internal/outbound sends them, within the operator's rules.
package delivery
