// Package client is the Go client of Carillon's HTTP API. It turns the codes
// of error answers back into the sentinels of package library, so that
// errors.Is means the same on both sides. It knows no door and no storage.
package client
