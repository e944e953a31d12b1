// Package web owns what the HTTP doors share: how an echo is made, the life
// cycle of its server, the limits of connections, headers and bodies, request
// ids, API tokens, and the only place where an error becomes a response. It
// knows no route.
package web
