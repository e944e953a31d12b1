// Package webhook owns the subscriptions to the change feed: who is told of
// which events, how far each is, which node delivers them, and what a delivery
// is and how it is signed. What events there are it does not know, nor how a
// request is sent.
package webhook
