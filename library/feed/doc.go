// Package feed owns the change feed: events that are appended to the catalog by
// the very commit that they tell of, so that none is lost, none is told of what
// did not happen, and all nodes have the same in the same order. What happens,
// the library says; who is told of it, the doors and package webhook.
package feed
