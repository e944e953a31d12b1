// Package outbound sends HTTP requests to places that users of the API named:
// webhooks and exports. It owns which addresses may be reached, how long
// things may take and how much is read, so that nobody can make a node talk to
// what only the node can reach.
package outbound
